-- depends: 20261126_04_longer_lifetimes
-- What was deleted or replaced by a decision, for a while: see keystore/postgres/functions/trash.sql.

SET LOCAL lock_timeout = '5s';

-- The creds have an empty type and id. All that one operation put here has one trashed_at in its company. Values are in
-- their stored form.
CREATE TABLE IF NOT EXISTS keystore_trash (
    company_id text NOT NULL,
    trashed_at timestamptz NOT NULL,
    key_type text NOT NULL,
    key_id text NOT NULL,
    reason text NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    expires_at timestamptz,
    PRIMARY KEY (company_id, trashed_at, key_type, key_id)
);

-- Settings that hold for everybody who writes through the functions.
CREATE TABLE IF NOT EXISTS keystore_settings (
    name text PRIMARY KEY,
    value double precision NOT NULL
);

-- Closed to everybody but their owner, as all of ours.
DO $$
DECLARE
    relation text;
    stranger text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['keystore_trash', 'keystore_settings'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', relation);
        FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %I FROM %I', relation, stranger);
        END LOOP;
    END LOOP;
END $$;
