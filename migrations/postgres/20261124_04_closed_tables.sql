-- depends: 20261124_03_opaque_values
-- The diary's policy `USING (true)` let every database role read every private key. Row-level security stays on with
-- no policy at all: the tables' owner reads and writes, nobody else sees a row.

DO $$
DECLARE
    policy record;
    stranger text;
BEGIN
    FOR policy IN
        SELECT polname, polrelid::regclass AS relation FROM pg_policy
        WHERE polrelid IN ('whatsapp_auth'::regclass, 'whatsapp_keys'::regclass)
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', policy.polname, policy.relation);
    END LOOP;
    -- Supabase grants to these two by default.
    FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON whatsapp_auth, whatsapp_keys, keystore_leases, keystore_sweeps, '
                       'keystore_counters, keystore_displaced FROM %I', stranger);
    END LOOP;
END $$;

REVOKE ALL ON whatsapp_auth, whatsapp_keys FROM PUBLIC;

-- It deletes what is expired without regard for the guards.
DROP FUNCTION IF EXISTS cleanup_expired_whatsapp_keys();

DROP FUNCTION IF EXISTS get_whatsapp_auth_stats();

DROP FUNCTION IF EXISTS update_whatsapp_auth_updated_at();

DROP FUNCTION IF EXISTS update_whatsapp_keys_updated_at();
