-- depends: 20261124_01_keystore_tables
-- What the watch remembers: none of it touches the diary's tables, so `migrate --attach` applies this file too.

-- Small durable notes by name: where the Telegram bot stands, what alerts fire, what is still to be delivered.
CREATE TABLE IF NOT EXISTS keystore_notes (
    name text PRIMARY KEY,
    document text NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Series over time: counts of the table, how long its keys have left, forecasts to be compared later. The watch thins them.
CREATE TABLE IF NOT EXISTS keystore_history (
    kind text NOT NULL,
    at timestamptz NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (kind, at)
);

-- Closed to everybody but their owner, as all of ours.
DO $$
DECLARE
    relation regclass;
    stranger text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['keystore_notes'::regclass, 'keystore_history'::regclass] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', relation);
        FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %I', relation, stranger);
        END LOOP;
    END LOOP;
END $$;
