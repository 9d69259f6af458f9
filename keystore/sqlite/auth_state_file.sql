-- The statements that read a file of Baileys' useSqliteAuthState.

-- name: has_auth_state
SELECT (SELECT count(*) FROM pragma_table_info('creds') WHERE name IN ('key', 'value')) = 2
       AND (SELECT count(*) FROM pragma_table_info('signal_keys') WHERE name IN ('type', 'id', 'value')) = 3

-- name: creds
SELECT CAST(value AS BLOB) FROM creds WHERE key = '__creds__'

-- name: keys
SELECT type, id, CAST(value AS BLOB) FROM signal_keys ORDER BY type, id
