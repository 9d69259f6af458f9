-- depends: 20261124_02_one_company_id
-- Values become opaque bytes: one format byte (0 = as given), then the JSON document as it was, with every Buffer in
-- base64 form (Baileys 7 no longer revives byte arrays). One rewrite of the table, in one transaction.
-- Running it again finds bytea and changes nothing.

-- A bot's open transaction holds these tables: give up rather than queue, and stall every bot behind us.
SET LOCAL lock_timeout = '5s';

-- Rewriting a large table takes what it takes, whatever patience the server has with everyday statements.
SET LOCAL statement_timeout = '2h';

-- First the indexes: a covering one over the values would break the rewrite (a value of 112 KB fits no index row),
-- and all but the primary key and one on expiry only cost. Measured by python -m bench.schema:
-- 200 bursts of 250 pre-keys took 0.40 s, 25 MB of log, 4.0 MB of indexes; with the diary's 0.62 s, 45 MB, 9.5 MB. None
-- of those made a read faster: load 0.45 ms without and 0.47 with them; a get of 10 sessions visits 12 pages, by the
-- primary key, where the planner else takes (key_type, company_id) and visits 54.
DROP INDEX IF EXISTS idx_whatsapp_auth_company, idx_whatsapp_keys_company, idx_whatsapp_keys_type,
    idx_whatsapp_keys_expires, idx_whatsapp_keys_company_type, idx_whatsapp_keys_company_type_id,
    idx_whatsapp_keys_expires_cleanup, idx_whatsapp_keys_type_company;

-- Room in each page for a row's next version, so that a rewrite stays in its page and touches no index. Measured by
-- python -m bench.schema, a day of 30,000 session rewrites: 98.4 % heap-only at 80, 97.2 at 100; a load then visits 48
-- pages against 78, of a table of 1.27 MB against 1.56. (The diary's schema: 0 %, 100 pages, 2.46 MB.) 30,000 creds
-- rewrites: 100 % heap-only at 50 or 80, 99.9 at 100; 0.57, 0.41 and 0.33 MB.
ALTER TABLE whatsapp_keys SET (fillfactor = 80);

ALTER TABLE whatsapp_auth SET (fillfactor = 80);

-- Whatever else depends on a value column (a covering index under another name, one on an expression) goes as well.
DO $$
DECLARE
    found regclass;
BEGIN
    FOR found IN
        SELECT DISTINCT d.objid::regclass FROM pg_depend d
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        JOIN pg_index i ON i.indexrelid = d.objid AND NOT i.indisprimary
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND a.atttypid <> 'bytea'::regtype
          AND ((d.refobjid = 'whatsapp_keys'::regclass AND a.attname = 'value')
               OR (d.refobjid = 'whatsapp_auth'::regclass AND a.attname = 'creds'))
    LOOP
        EXECUTE format('DROP INDEX %s', found);
    END LOOP;
END $$;

-- The forms a Buffer may have are those that keystore/baileys.py reads; what is none of them stays as it is.
CREATE OR REPLACE FUNCTION keystore_base64(document jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    payload jsonb;
    encoded text;
    not_a_byte CONSTANT jsonpath := 'strict $[*] ? (@.type() != "number" || @ < 0 || @ > 255 || @.floor() != @)';
BEGIN
    IF jsonb_typeof(document) = 'array' THEN
        RETURN coalesce((
            SELECT jsonb_agg(keystore_base64(e.value) ORDER BY e.place)
            FROM jsonb_array_elements(document) WITH ORDINALITY AS e (value, place)
        ), '[]');
    ELSIF jsonb_typeof(document) <> 'object' THEN
        RETURN document;
    END IF;
    IF document -> 'type' = '"Buffer"' OR document -> 'buffer' = 'true' THEN
        payload := coalesce(nullif(document -> 'data', 'null'), nullif(document -> 'value', 'null'), '[]');
        IF jsonb_typeof(payload) = 'object' THEN
            payload := keystore_base64(payload);
            IF payload -> 'type' = '"Buffer"' THEN
                RETURN payload;
            END IF;
        END IF;
    ELSIF document ? '0' THEN
        -- {"0": 7, "1": 9}: a Uint8Array written without a replacer.
        SELECT jsonb_agg(document -> n::text ORDER BY n) INTO payload
        FROM generate_series(0, (SELECT count(*)::int FROM jsonb_object_keys(document)) - 1) AS n
        HAVING bool_and(document ? n::text);
    END IF;
    IF jsonb_typeof(payload) = 'string' THEN
        encoded := rtrim(translate(payload #>> '{}', '-_', '+/'), '=');
        encoded := encoded || repeat('=', (4 - length(encoded) % 4) % 4);
    ELSIF jsonb_typeof(payload) = 'array' AND NOT jsonb_path_exists(payload, not_a_byte) THEN
        SELECT encode(decode(coalesce(string_agg(lpad(to_hex(e.byte::numeric::int), 2, '0'), '' ORDER BY e.place), ''),
                             'hex'), 'base64') INTO encoded
        FROM jsonb_array_elements_text(payload) WITH ORDINALITY AS e (byte, place);
        encoded := replace(encoded, E'\n', '');
    END IF;
    IF encoded IS NOT NULL THEN
        RETURN jsonb_build_object('type', 'Buffer', 'data', encoded);
    END IF;
    RETURN coalesce((SELECT jsonb_object_agg(key, keystore_base64(value)) FROM jsonb_each(document)), '{}');
END $$;

DO $$
BEGIN
    IF (SELECT atttypid <> 'bytea'::regtype FROM pg_attribute
        WHERE attrelid = 'whatsapp_keys'::regclass AND attname = 'value') THEN
        ALTER TABLE whatsapp_keys ALTER COLUMN value DROP DEFAULT, ALTER COLUMN value TYPE bytea
            USING '\x00'::bytea || convert_to(keystore_base64(value::jsonb)::text, 'UTF8');
    END IF;
    IF (SELECT atttypid <> 'bytea'::regtype FROM pg_attribute
        WHERE attrelid = 'whatsapp_auth'::regclass AND attname = 'creds') THEN
        ALTER TABLE whatsapp_auth ALTER COLUMN creds DROP DEFAULT, ALTER COLUMN creds TYPE bytea
            USING '\x00'::bytea || convert_to(keystore_base64(creds::jsonb)::text, 'UTF8');
    END IF;
END $$;

DROP FUNCTION keystore_base64(jsonb);

-- A time that nobody wrote down: as late as its like, so that it neither goes early nor, as the newest pre-key of all,
-- takes the sweep's protection from the others.
UPDATE whatsapp_keys k SET
    created_at = coalesce(created_at, updated_at, latest.at, now()),
    updated_at = coalesce(updated_at, created_at, latest.at, now())
FROM (SELECT company_id, key_type, max(coalesce(updated_at, created_at)) AS at FROM whatsapp_keys GROUP BY 1, 2) AS latest
WHERE (k.created_at IS NULL OR k.updated_at IS NULL)
  AND latest.company_id = k.company_id AND latest.key_type = k.key_type;

UPDATE whatsapp_auth SET created_at = coalesce(created_at, updated_at, now()), updated_at = coalesce(updated_at, created_at, now())
WHERE created_at IS NULL OR updated_at IS NULL;

ALTER TABLE whatsapp_keys ALTER COLUMN value SET NOT NULL, ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL;

ALTER TABLE whatsapp_auth ALTER COLUMN creds SET NOT NULL, ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL;

-- For the sweep, which first lists the companies that are due, and for the backfill, which looks for what is null. On
-- the time alone: measured by python -m bench.schema, 300,000 keys with a tenth due, it is smaller than one that leads
-- with the company (2.0 MB against 3.5) and lists them in 4 ms against 24, or in 0.01 against 1.2 when nothing is due;
-- sweeping 50 companies takes 5.3 ms against 5.2, and a load finds the primary key (48 pages against 45).
CREATE INDEX IF NOT EXISTS whatsapp_keys_expiry ON whatsapp_keys (expires_at);
