-- depends: 20251008_optimize_whatsapp_keys 20261124_01_keystore_tables
-- `company_962302` and `962302` are one account: its rows go under the bare form. Where both spellings hold the same
-- key, the one written last stays and the other is set aside in keystore_displaced. Running it again changes nothing.

-- A bot's open transaction holds these tables: give up rather than queue, and stall every bot behind us.
SET LOCAL lock_timeout = '5s';

WITH ranked AS (
    SELECT company_id, key_type, key_id,
           row_number() OVER (
               PARTITION BY regexp_replace(company_id, '^(company_)+', ''), key_type, key_id
               ORDER BY updated_at DESC NULLS LAST, length(company_id)
           ) AS place
    FROM whatsapp_keys
    WHERE regexp_replace(company_id, '^(company_)+', '') <> ''
), displaced AS (
    DELETE FROM whatsapp_keys k USING ranked r
    WHERE r.place > 1 AND k.company_id = r.company_id AND k.key_type = r.key_type AND k.key_id = r.key_id
    RETURNING k.company_id, k.key_type, k.key_id, k.value::text, k.updated_at
)
INSERT INTO keystore_displaced (company_id, key_type, key_id, document, updated_at) SELECT * FROM displaced;

WITH ranked AS (
    SELECT company_id,
           row_number() OVER (
               PARTITION BY regexp_replace(company_id, '^(company_)+', '')
               ORDER BY updated_at DESC NULLS LAST, length(company_id)
           ) AS place
    FROM whatsapp_auth
    WHERE regexp_replace(company_id, '^(company_)+', '') <> ''
), displaced AS (
    DELETE FROM whatsapp_auth a USING ranked r
    WHERE r.place > 1 AND a.company_id = r.company_id
    RETURNING a.company_id, 'creds', '', a.creds::text, a.updated_at
)
INSERT INTO keystore_displaced (company_id, key_type, key_id, document, updated_at) SELECT * FROM displaced;

-- The triggers would pass every change of ours off as a bot's activity. (Under whatever name a bot made them.)
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT t.tgname, t.tgrelid::regclass AS relation FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE t.tgrelid IN ('whatsapp_auth'::regclass, 'whatsapp_keys'::regclass) AND NOT t.tgisinternal
          AND p.proname IN ('update_whatsapp_auth_updated_at', 'update_whatsapp_keys_updated_at')
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', found.tgname, found.relation);
    END LOOP;
END $$;

UPDATE whatsapp_keys SET company_id = regexp_replace(company_id, '^(company_)+', '')
WHERE company_id LIKE 'company\_%' AND regexp_replace(company_id, '^(company_)+', '') <> '';

UPDATE whatsapp_auth SET company_id = regexp_replace(company_id, '^(company_)+', '')
WHERE company_id LIKE 'company\_%' AND regexp_replace(company_id, '^(company_)+', '') <> '';
