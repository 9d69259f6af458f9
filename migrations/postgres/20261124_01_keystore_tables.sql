-- Our own tables, none of which touches the diary's: `migrate --attach` applies this file alone beside a live bot.

-- Who may do a kind of work now. epoch rises with each holder, so that a stale one is found out.
CREATE TABLE IF NOT EXISTS keystore_leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

-- One row a sweep; by_type is a JSON object {key_type: deleted}.
CREATE TABLE IF NOT EXISTS keystore_sweeps (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sweeper text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    took_ms double precision NOT NULL DEFAULT 0,
    deleted bigint NOT NULL DEFAULT 0,
    by_type text NOT NULL DEFAULT '{}',
    error text
);

-- How often something countable happened to a company's keys, by the hour.
CREATE TABLE IF NOT EXISTS keystore_counters (
    company_id text NOT NULL,
    hour timestamptz NOT NULL,
    key_type text NOT NULL,
    event text NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (company_id, hour, key_type, event)
);

-- Rows that lost to a newer row of the same name when two spellings of one company were joined; kept, never read.
CREATE TABLE IF NOT EXISTS keystore_displaced (
    company_id text NOT NULL,
    key_type text NOT NULL,
    key_id text NOT NULL,
    document text NOT NULL,
    updated_at timestamptz,
    displaced_at timestamptz NOT NULL DEFAULT now()
);

-- Closed to everybody but their owner. So is yoyo's record: a stranger who may write it stops our next start. (anon and
-- authenticated are the roles to which Supabase grants every new table, for whoever comes in over HTTP.)
DO $$
DECLARE
    relation regclass;
    stranger text;
BEGIN
    FOR relation IN
        SELECT oid FROM pg_class
        WHERE oid IN (to_regclass('yoyo_lock'), to_regclass('_yoyo_migration'), to_regclass('_yoyo_log'),
                      to_regclass('_yoyo_version'), 'keystore_leases'::regclass, 'keystore_sweeps'::regclass,
                      'keystore_counters'::regclass, 'keystore_displaced'::regclass)
        ORDER BY oid
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', relation);
        FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %I', relation, stranger);
        END LOOP;
    END LOOP;
END $$;
