-- For large installations, never run by `migrate`: moves each company's keys together on disk, while the bots run.
-- Keys lie in the order of their arrival, between those of all other companies, and a load reads a page for nearly each.
-- docs/scaling.md has the reasons and measurements. Run it as the tables' owner, in a quiet hour, every month or so:
--   psql -v ON_ERROR_STOP=1 -f migrations/large/gather_companies.sql service=keystore
-- Each company is one transaction of some ten milliseconds. Writers wait for it, because a key that a bot deletes during
-- the move would stay. (Loads don't wait.) Companies whose keys lie together already are skipped, so the script may be
-- stopped and run again.
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
                -- Shorter than deadlock_timeout: a longer wait for a table would cancel its autovacuum, and every writer
                -- would wait behind it.
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
