-- The statements of emptied_database.py. A superuser runs them, connected to the database.

-- name: end_other_connections
SELECT pg_terminate_backend(pid, 5000)
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();

-- name: fingerprint
-- A hash of everything in the catalog that a migration or a test could change.
WITH schemas AS (
    SELECT oid, nspname, nspowner, nspacl::text FROM pg_namespace
    WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%'
), relations AS (
    SELECT c.oid, s.nspname, c.relname, c.relkind, c.relpersistence, c.relowner, c.reloptions, c.relacl::text,
           c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
), parts (part) AS (
    SELECT s::text FROM schemas s
    UNION ALL
    SELECT r::text FROM relations r
    UNION ALL
    SELECT concat_ws(' ', r.oid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attacl, a.attoptions,
                     a.attstorage, pg_get_expr(d.adbin, d.adrelid))
    FROM relations r
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    UNION ALL
    SELECT concat_ws(' ', c.conname, c.convalidated, pg_get_constraintdef(c.oid))
    FROM pg_constraint c JOIN relations r ON r.oid = c.conrelid
    UNION ALL
    SELECT concat_ws(' ', i.indisvalid, pg_get_indexdef(i.indexrelid))
    FROM pg_index i JOIN relations r ON r.oid = i.indexrelid
    UNION ALL
    SELECT concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid)) FROM pg_trigger t WHERE NOT t.tgisinternal
    UNION ALL
    SELECT concat_ws(' ', p.oid::regprocedure, p.prosrc, p.proacl, p.proconfig)
    FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace
    UNION ALL
    SELECT p::text FROM pg_policies p
    UNION ALL
    SELECT concat_ws(' ', d.datconnlimit, d.datallowconn, d.datacl, s.setrole, s.setconfig)
    FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid WHERE d.datname = current_database()
    UNION ALL
    SELECT migration_id FROM public._yoyo_migration
)
SELECT md5(string_agg(part, '|' ORDER BY part)) FROM parts;

-- name: used_tables
-- The store's tables with pages: with rows, or with the space of deleted ones. The policy's rows belong to the template.
-- A table that Citus has distributed has its pages elsewhere, and a trigger for TRUNCATE.
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relname NOT LIKE '%yoyo%' AND c.relname <> 'keystore_policy'
  AND (pg_relation_size(c.oid) > 0
       OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname LIKE 'truncate\_trigger\_%'))
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%';

-- name: policy
SELECT place, key_type, matches, ttl_s, step_s, lengthened_at FROM public.keystore_policy ORDER BY place;

-- name: forget_policy
DELETE FROM public.keystore_policy;

-- name: add_lifetime
INSERT INTO public.keystore_policy (place, key_type, matches, ttl_s, step_s, lengthened_at) VALUES (%s, %s, %s, %s, %s, %s);

-- name: forget_statistics
-- The planner's statistics, which TRUNCATE leaves.
DELETE FROM pg_statistic WHERE starelid IN (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
);
