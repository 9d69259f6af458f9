-- depends: 20261124_03_opaque_values
-- The diary's policy `USING (true)` let every database role read every private key. Row-level security stays on with
-- no policy at all: the tables' owner reads and writes, nobody else sees a row.

-- A bot's open transaction holds these tables: give up rather than queue, and stall every bot behind us.
SET LOCAL lock_timeout = '5s';

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
        EXECUTE format('REVOKE ALL ON whatsapp_auth, whatsapp_keys FROM %I', stranger);
    END LOOP;
END $$;

-- NO FORCE: the owner is who the store logs in as, and with no policy a forced one would see nothing.
ALTER TABLE whatsapp_auth ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;

ALTER TABLE whatsapp_keys ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;

REVOKE ALL ON whatsapp_auth, whatsapp_keys FROM PUBLIC;

-- It deletes what is expired without regard for the guards.
DROP FUNCTION IF EXISTS cleanup_expired_whatsapp_keys();

DROP FUNCTION IF EXISTS get_whatsapp_auth_stats();

-- A trigger of the operator's on another table may use these two; then they stay.
DO $$
BEGIN
    DROP FUNCTION IF EXISTS update_whatsapp_auth_updated_at();
    DROP FUNCTION IF EXISTS update_whatsapp_keys_updated_at();
EXCEPTION WHEN dependent_objects_still_exist THEN
    NULL;
END $$;
