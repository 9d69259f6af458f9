-- depends: 20261126_02_rules_in_the_database
-- The logins of bots, and the companies of each: a login may call the functions of a bot for these, and reads no table.

SET LOCAL lock_timeout = '5s';

-- most_keys and most_bytes are the quota of each company of the login.
CREATE TABLE IF NOT EXISTS keystore_logins (
    login text NOT NULL,
    company_id text NOT NULL,
    most_keys bigint NOT NULL,
    most_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (login, company_id)
);

-- Closed to everybody but its owner, as all of ours.
DO $$
DECLARE
    stranger text;
BEGIN
    ALTER TABLE keystore_logins ENABLE ROW LEVEL SECURITY;
    REVOKE ALL ON keystore_logins FROM PUBLIC;
    FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON keystore_logins FROM %I', stranger);
    END LOOP;
END $$;
