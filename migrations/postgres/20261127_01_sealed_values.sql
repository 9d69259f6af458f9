-- depends: 20261126_05_trash
-- The keys of sealed values: see docs/sealing.md. It touches none of the diary's tables.

SET LOCAL lock_timeout = '5s';

-- The data key that seals a company's values, itself sealed by a master key. Without its row the values are gone for good.
CREATE TABLE IF NOT EXISTS keystore_data_keys (
    company_id text PRIMARY KEY,
    key_id bytea NOT NULL,
    sealed_key bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- The master keys that sealed a data key. Each has a text that it sealed too, so that a wrong key is noticed at opening.
CREATE TABLE IF NOT EXISTS keystore_master_keys (
    key_id bytea PRIMARY KEY,
    canary bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- Closed to everybody but their owner, as all of ours.
DO $$
DECLARE
    relation text;
    stranger text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['keystore_data_keys', 'keystore_master_keys'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', relation);
        FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %I FROM %I', relation, stranger);
        END LOOP;
    END LOOP;
END $$;
