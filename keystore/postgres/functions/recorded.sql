-- Run last, in the transaction that made the functions. The settings keystore.functions and
-- keystore.function_names hold their hash and their names.
--
-- A function that isn't in the files any more is dropped, and so is the older of two with one name: its arguments have
-- changed. The others were replaced and not dropped, so that sessions with a plan that calls them go on. (A function with
-- another result needs another name.) Nobody but the owner may call
-- them; Supabase grants every new function to anon and authenticated.
DO $$
DECLARE
    names CONSTANT text[] := string_to_array(current_setting('keystore.function_names'), ',');
    made record;
    stranger text;
BEGIN
    FOR made IN
        SELECT p.oid::regprocedure AS name,
               p.proname = ANY (names) AND p.oid = max(p.oid) OVER (PARTITION BY p.proname) AS stays
        FROM pg_proc p WHERE p.pronamespace = quote_ident(current_schema())::regnamespace AND p.proname LIKE 'keystore\_%'
    LOOP
        IF NOT made.stays THEN
            EXECUTE format('DROP FUNCTION %s', made.name);
            CONTINUE;
        END IF;
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made.name);
        FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', made.name, stranger);
        END LOOP;
    END LOOP;
    EXECUTE format('COMMENT ON FUNCTION keystore_rounded_expiry(double precision, double precision, timestamptz) IS %L',
                   'Signal Keystore, functions ' || current_setting('keystore.functions'));
END $$;
