-- depends: 20261124_01_keystore_tables
-- Who may write and who may come in: none of it touches the diary's tables, so `migrate --attach` applies this file too.

-- Who may write a company's keys now. epoch rises with each time that it is taken, so that a stale writer is found out;
-- so a row stays when its lease ends.
CREATE TABLE IF NOT EXISTS keystore_company_leases (
    company_id text PRIMARY KEY,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

-- API tokens: the SHA-256 of a secret, never the secret. Without a company it is an admin's.
CREATE TABLE IF NOT EXISTS keystore_tokens (
    token_id text PRIMARY KEY,
    secret_hash bytea NOT NULL,
    company_id text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- Closed to everybody but their owner, as all of ours.
DO $$
DECLARE
    relation regclass;
    stranger text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['keystore_company_leases'::regclass, 'keystore_tokens'::regclass] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', relation);
        FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %I', relation, stranger);
        END LOOP;
    END LOOP;
END $$;
