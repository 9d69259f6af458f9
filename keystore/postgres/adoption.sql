-- Looks at a bot's own tables before they are converted. Nothing here changes one of them, except the last statements.

-- A bot's open transaction holds these tables: give up rather than queue, and stall every bot behind us.
-- name: lock
SELECT set_config('lock_timeout', '5s', true)

-- name: lock_keys
LOCK TABLE whatsapp_keys IN ACCESS EXCLUSIVE MODE

-- name: lock_creds
LOCK TABLE whatsapp_auth IN ACCESS EXCLUSIVE MODE

-- The tables that are there, and whose values aren't bytes yet.
-- name: tables
SELECT a.attrelid = to_regclass('whatsapp_keys')::oid, a.atttypid <> 'bytea'::regtype
FROM pg_attribute a
WHERE a.attname = 'value' AND a.attrelid = to_regclass('whatsapp_keys')
   OR a.attname = 'creds' AND a.attrelid = to_regclass('whatsapp_auth')

-- Each problem in words, and the statement that ends it.
-- name: problems
WITH wanted (relation, attname, kind, size) AS (
    SELECT to_regclass(w.name)::oid, w.attname, w.kind, w.size
    FROM (VALUES ('whatsapp_keys', 'company_id', 'text', 64), ('whatsapp_keys', 'key_type', 'text', 255),
                 ('whatsapp_keys', 'key_id', 'text', 255), ('whatsapp_keys', 'value', 'jsonb', 0),
                 ('whatsapp_keys', 'created_at', 'timestamptz', 0), ('whatsapp_keys', 'updated_at', 'timestamptz', 0),
                 ('whatsapp_keys', 'expires_at', 'timestamptz', 0), ('whatsapp_auth', 'company_id', 'text', 64),
                 ('whatsapp_auth', 'creds', 'jsonb', 0), ('whatsapp_auth', 'created_at', 'timestamptz', 0),
                 ('whatsapp_auth', 'updated_at', 'timestamptz', 0)) AS w (name, attname, kind, size)
    WHERE to_regclass(w.name) IS NOT NULL
), relations (relation, key) AS (
    SELECT relation, array_agg(attname::text ORDER BY attname) FILTER (WHERE kind = 'text') FROM wanted GROUP BY relation
), columns AS (
    SELECT w.*, a.attnum, a.atttypmod, t.typname, format_type(a.atttypid, a.atttypmod) AS type
    FROM wanted w LEFT JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = w.attname AND NOT a.attisdropped
    LEFT JOIN pg_type t ON t.oid = a.atttypid
), indexes AS (
    SELECT i.indrelid AS relation, i.indexrelid::regclass AS name, i.indisprimary, i.indpred IS NULL AS whole, c.conname,
           i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS usable,
           (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
            WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS columns
    FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid
    WHERE i.indisunique AND i.indrelid IN (SELECT relation FROM relations)
)
SELECT format('%%s has no column %%s', relation::regclass, attname),
       CASE kind WHEN 'timestamptz'
           THEN format('ALTER TABLE %%s ADD COLUMN %%I timestamptz%%s', relation::regclass, attname,
                       CASE WHEN attname <> 'expires_at' THEN ' DEFAULT now()' END)
           ELSE format('ALTER TABLE %%s RENAME COLUMN … TO %%I', relation::regclass, attname) END
FROM columns WHERE attnum IS NULL
UNION ALL
SELECT format('%%s.%%s is %%s', relation::regclass, attname, type),
       format('ALTER TABLE %%s ALTER COLUMN %%I TYPE %%s USING %%I::%%s', relation::regclass, attname, kind, attname, kind)
FROM columns
WHERE CASE kind
      WHEN 'text' THEN typname <> 'text' AND NOT (typname = 'varchar' AND (atttypmod = -1 OR atttypmod - 4 >= size))
      WHEN 'jsonb' THEN typname NOT IN ('jsonb', 'json', 'text', 'varchar', 'bytea')
      ELSE typname NOT IN ('timestamptz', 'timestamp') END
UNION ALL
SELECT format('%%s has no unique key (%%s)', r.relation::regclass, array_to_string(r.key, ', ')),
       format('ALTER TABLE %%s ADD %%s (%%s)', r.relation::regclass,
              CASE WHEN EXISTS (SELECT FROM indexes i WHERE i.relation = r.relation AND i.indisprimary) THEN 'UNIQUE'
                   ELSE 'PRIMARY KEY' END, array_to_string(r.key, ', '))
FROM relations r
WHERE NOT EXISTS (SELECT FROM columns c WHERE c.relation = r.relation AND c.kind = 'text' AND c.attnum IS NULL)
  AND NOT EXISTS (SELECT FROM indexes i WHERE i.relation = r.relation AND i.usable AND i.columns = r.key)
UNION ALL
SELECT format('%%s has a narrower unique key, %%s', i.relation::regclass, i.name),
       CASE WHEN i.conname IS NULL THEN format('DROP INDEX %%s', i.name)
            ELSE format('ALTER TABLE %%s DROP CONSTRAINT %%I', i.relation::regclass, i.conname) END
FROM indexes i JOIN relations r USING (relation)
WHERE NOT i.columns @> r.key
  AND i.columns <@ ARRAY['company_id', 'key_type', 'key_id', 'value', 'creds', 'created_at', 'updated_at', 'expires_at']
UNION ALL
SELECT format('%%s.%%s needs a value in each row, and has no default', a.attrelid::regclass, a.attname),
       format('ALTER TABLE %%s ALTER COLUMN %%I DROP NOT NULL', a.attrelid::regclass, a.attname)
FROM pg_attribute a
WHERE a.attrelid IN (SELECT relation FROM relations) AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
  AND a.attname NOT IN ('company_id', 'key_type', 'key_id', 'value', 'creds', 'created_at', 'updated_at', 'expires_at')
UNION ALL
SELECT CASE WHEN c.conrelid IN (SELECT relation FROM relations)
            THEN format('%%s has the constraint %%s, which refuses rows', c.conrelid::regclass, c.conname)
            ELSE format('%%s refers to %%s by the constraint %%s', c.conrelid::regclass, c.confrelid::regclass, c.conname)
       END, format('ALTER TABLE %%s DROP CONSTRAINT %%I', c.conrelid::regclass, c.conname)
FROM pg_constraint c
WHERE (c.conrelid IN (SELECT relation FROM relations) AND c.contype IN ('f', 'c', 'x'))
   OR (c.confrelid IN (SELECT relation FROM relations) AND c.contype = 'f' AND c.confdeltype IN ('a', 'r'))
UNION ALL
SELECT format('%%s has the trigger %%s, which changes rows', t.tgrelid::regclass, t.tgname),
       format('DROP TRIGGER %%I ON %%s', t.tgname, t.tgrelid::regclass)
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid IN (SELECT relation FROM relations) AND NOT t.tgisinternal
  AND p.proname NOT IN ('update_whatsapp_auth_updated_at', 'update_whatsapp_keys_updated_at')

-- Rows without a value, and rows with times that an import would refuse. An expiry of `infinity` means never.
-- name: keys_in_the_way
WITH odd AS (
    SELECT count(*) FILTER (WHERE value IS NULL) AS empty,
           count(*) FILTER (WHERE created_at < '2000-01-01Z' OR created_at >= '2101-01-01Z') AS created,
           count(*) FILTER (WHERE updated_at < '2000-01-01Z' OR updated_at >= '2101-01-01Z') AS updated,
           count(*) FILTER (WHERE expires_at < '2000-01-01Z'
                               OR (expires_at >= '2301-01-01Z' AND expires_at < 'infinity')) AS expiring
    FROM whatsapp_keys
)
SELECT format('%%s rows of whatsapp_keys have no value', empty), 'DELETE FROM whatsapp_keys WHERE value IS NULL'
FROM odd WHERE empty > 0
UNION ALL
SELECT format('%%s rows of whatsapp_keys were created before 2000 or after 2100', created),
       'UPDATE whatsapp_keys SET created_at = now() WHERE created_at NOT BETWEEN ''2000-01-02'' AND ''2100-12-30'''
FROM odd WHERE created > 0
UNION ALL
SELECT format('%%s rows of whatsapp_keys were written before 2000 or after 2100', updated),
       'UPDATE whatsapp_keys SET updated_at = now() WHERE updated_at NOT BETWEEN ''2000-01-02'' AND ''2100-12-30'''
FROM odd WHERE updated > 0
UNION ALL
SELECT format('%%s rows of whatsapp_keys expire before 2000 or after 2300', expiring),
       'UPDATE whatsapp_keys SET expires_at = NULL WHERE expires_at NOT BETWEEN ''2000-01-02'' AND ''2300-12-30'' '
       'AND expires_at < ''infinity'''
FROM odd WHERE expiring > 0

-- name: creds_in_the_way
WITH odd AS (
    SELECT count(*) FILTER (WHERE creds IS NULL) AS empty,
           count(*) FILTER (WHERE created_at < '2000-01-01Z' OR created_at >= '2101-01-01Z') AS created,
           count(*) FILTER (WHERE updated_at < '2000-01-01Z' OR updated_at >= '2101-01-01Z') AS updated
    FROM whatsapp_auth
)
SELECT format('%%s rows of whatsapp_auth have no creds', empty), 'DELETE FROM whatsapp_auth WHERE creds IS NULL'
FROM odd WHERE empty > 0
UNION ALL
SELECT format('%%s rows of whatsapp_auth were created before 2000 or after 2100', created),
       'UPDATE whatsapp_auth SET created_at = now() WHERE created_at NOT BETWEEN ''2000-01-02'' AND ''2100-12-30'''
FROM odd WHERE created > 0
UNION ALL
SELECT format('%%s rows of whatsapp_auth were written before 2000 or after 2100', updated),
       'UPDATE whatsapp_auth SET updated_at = now() WHERE updated_at NOT BETWEEN ''2000-01-02'' AND ''2100-12-30'''
FROM odd WHERE updated > 0

-- name: companies_of_keys
SELECT DISTINCT company_id FROM whatsapp_keys ORDER BY 1

-- name: companies_of_creds
SELECT company_id FROM whatsapp_auth ORDER BY 1

-- name: key_values
SELECT company_id, key_type, key_id, value::text FROM whatsapp_keys

-- name: creds_values
SELECT company_id, '', '', creds::text FROM whatsapp_auth

-- The bot's trigger would pass each of the changes below off as a use of the key.
-- name: keys_triggers_off
ALTER TABLE whatsapp_keys DISABLE TRIGGER USER

-- name: creds_triggers_off
ALTER TABLE whatsapp_auth DISABLE TRIGGER USER

-- name: keys_triggers_on
ALTER TABLE whatsapp_keys ENABLE TRIGGER USER

-- name: creds_triggers_on
ALTER TABLE whatsapp_auth ENABLE TRIGGER USER

-- name: rename_keys
UPDATE whatsapp_keys SET company_id = %(new)s WHERE company_id = %(old)s

-- name: rename_creds
UPDATE whatsapp_auth SET company_id = %(new)s WHERE company_id = %(old)s

-- name: rewrite_key
UPDATE whatsapp_keys SET value = %(document)s::jsonb
WHERE company_id = %(company_id)s AND key_type = %(key_type)s AND key_id = %(key_id)s

-- name: rewrite_creds
UPDATE whatsapp_auth SET creds = %(document)s::jsonb WHERE company_id = %(company_id)s
