-- depends: 20261125_02_access
-- The sequence of our own tables is closed too: whoever may set it makes every later sweep fail with a duplicate key.
-- (Supabase grants new sequences to anon and authenticated, as it does new tables.) `migrate --attach` applies this file.
DO $$
DECLARE
    sequence constant text := pg_get_serial_sequence('keystore_sweeps', 'run_id');
    stranger text;
BEGIN
    EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC', sequence);
    FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM %I', sequence, stranger);
    END LOOP;
END $$;
