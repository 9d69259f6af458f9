-- Upkeep for large installations, never run by `migrate`: lays each company's keys together, beside running bots. Keys
-- lie in the order in which they came, between those of all other companies, and a load reads a page for nearly each.
-- Why, and what it gave: docs/scaling.md. As the tables' owner, in a quiet hour, every month or so:
--   psql -v ON_ERROR_STOP=1 -f migrations/large/gather_companies.sql "$KEYSTORE_URL"
-- A company is one transaction of some ten milliseconds, for which writers wait: a key that a bot deletes while it moves
-- would stay. (Loads don't wait.) One whose keys lie together already is passed over, so it may be stopped and run again.
DO $$
DECLARE
    company text;
    scattered boolean;
    moved boolean;
BEGIN
    FOR company IN SELECT DISTINCT company_id FROM whatsapp_keys LOOP
        SELECT count(DISTINCT (k.tableoid, split_part(k.ctid::text, ',', 1))) * 4 > count(*) AND count(*) > 100
        INTO scattered FROM whatsapp_keys k WHERE k.company_id = company;
        moved := NOT scattered;
        WHILE NOT moved LOOP
            BEGIN
                -- Short of deadlock_timeout: whoever waits longer for a table that autovacuum is at has that cancelled,
                -- and every writer waits behind it.
                PERFORM set_config('lock_timeout', '100ms', true);
                LOCK TABLE whatsapp_keys IN SHARE ROW EXCLUSIVE MODE;
                WITH taken AS (
                    DELETE FROM whatsapp_keys k WHERE k.company_id = company RETURNING k.*
                )
                INSERT INTO whatsapp_keys SELECT * FROM taken ORDER BY key_type, key_id;
                moved := true;
            EXCEPTION WHEN lock_not_available THEN
                PERFORM pg_sleep(1);
            END;
            COMMIT;
        END LOOP;
    END LOOP;
END $$;
