-- depends: 20261124_02_one_company_id
-- Values become opaque bytes: one format byte (0 = as given), then the JSON document as it was, with every Buffer in
-- base64 form (Baileys 7 no longer revives byte arrays). One rewrite of the table, in one transaction.
-- Running it again finds bytea and changes nothing.

-- First the indexes: a covering one over the values would break the rewrite (a value of 112 KB fits no index row),
-- and all but the primary key and one on expiry only cost. {indexes}
DROP INDEX IF EXISTS idx_whatsapp_auth_company, idx_whatsapp_keys_company, idx_whatsapp_keys_type,
    idx_whatsapp_keys_expires, idx_whatsapp_keys_company_type, idx_whatsapp_keys_company_type_id,
    idx_whatsapp_keys_expires_cleanup, idx_whatsapp_keys_type_company;

-- Room in each page for a row's next version, so that a rewrite stays in its page and touches no index. {fillfactor}
ALTER TABLE whatsapp_keys SET (fillfactor = 80);

ALTER TABLE whatsapp_auth SET (fillfactor = 50);

CREATE OR REPLACE FUNCTION pg_temp.keystore_base64(document jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    payload jsonb;
BEGIN
    IF jsonb_typeof(document) = 'object' THEN
        IF document -> 'type' = '"Buffer"' OR document -> 'buffer' = 'true' THEN
            payload := coalesce(document -> 'data', document -> 'value');
            IF jsonb_typeof(payload) = 'array' THEN
                RETURN jsonb_build_object('type', 'Buffer', 'data', (
                    SELECT replace(encode(coalesce(string_agg(
                        set_byte('\x00'::bytea, 0, trunc(e.byte::numeric)::int & 255), ''::bytea ORDER BY e.place
                    ), ''::bytea), 'base64'), E'\n', '')
                    FROM jsonb_array_elements_text(payload) WITH ORDINALITY AS e (byte, place)
                ));
            ELSIF jsonb_typeof(payload) = 'string' THEN
                RETURN jsonb_build_object('type', 'Buffer', 'data', payload);
            END IF;
        END IF;
        RETURN coalesce((SELECT jsonb_object_agg(key, pg_temp.keystore_base64(value)) FROM jsonb_each(document)), '{}');
    ELSIF jsonb_typeof(document) = 'array' THEN
        RETURN coalesce((
            SELECT jsonb_agg(pg_temp.keystore_base64(e.value) ORDER BY e.place)
            FROM jsonb_array_elements(document) WITH ORDINALITY AS e (value, place)
        ), '[]');
    END IF;
    RETURN document;
END $$;

DO $$
BEGIN
    IF (SELECT atttypid <> 'bytea'::regtype FROM pg_attribute
        WHERE attrelid = 'whatsapp_keys'::regclass AND attname = 'value') THEN
        ALTER TABLE whatsapp_keys ALTER COLUMN value TYPE bytea
            USING '\x00'::bytea || convert_to(pg_temp.keystore_base64(value::jsonb)::text, 'UTF8');
    END IF;
    IF (SELECT atttypid <> 'bytea'::regtype FROM pg_attribute
        WHERE attrelid = 'whatsapp_auth'::regclass AND attname = 'creds') THEN
        ALTER TABLE whatsapp_auth ALTER COLUMN creds TYPE bytea
            USING '\x00'::bytea || convert_to(pg_temp.keystore_base64(creds::jsonb)::text, 'UTF8');
    END IF;
END $$;

UPDATE whatsapp_keys SET created_at = coalesce(created_at, updated_at, now()), updated_at = coalesce(updated_at, created_at, now())
WHERE created_at IS NULL OR updated_at IS NULL;

UPDATE whatsapp_auth SET created_at = coalesce(created_at, updated_at, now()), updated_at = coalesce(updated_at, created_at, now())
WHERE created_at IS NULL OR updated_at IS NULL;

ALTER TABLE whatsapp_keys ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN updated_at SET NOT NULL;

ALTER TABLE whatsapp_auth ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN updated_at SET NOT NULL;

-- A sweep goes company by company, so its index leads with the company like every other statement. {expiry}
CREATE INDEX IF NOT EXISTS whatsapp_keys_expiry ON whatsapp_keys (company_id, expires_at);
