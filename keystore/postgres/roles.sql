-- The roles of Signal Keystore beside the owner of its tables, which `migrate` and `role create` need.
-- Run this in the database as the owner with CREATEROLE, or as a superuser; again after each upgrade. It changes no data.

-- 1. What `serve` needs, and no more: it reads and writes the rows, and changes no table.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{service}') THEN
        CREATE ROLE {service} LOGIN NOINHERIT;  -- Then give it a password: \password {service}
    END IF;
    -- 2. Counts for a monitor: which keys there are, with their times. It reads no value and no creds.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{monitor}') THEN
        CREATE ROLE {monitor} LOGIN NOINHERIT;  -- Then give it a password: \password {monitor}
    END IF;
END $$;
GRANT USAGE ON SCHEMA {schema} TO {service}, {monitor};
SET search_path = {schema}, pg_temp;

GRANT SELECT, INSERT, UPDATE, DELETE ON
    whatsapp_auth, whatsapp_keys, keystore_company_leases, keystore_counters, keystore_displaced, keystore_history,
    keystore_leases, keystore_logins, keystore_notes, keystore_policy, keystore_settings, keystore_sweeps, keystore_tokens,
    keystore_trash, keystore_data_keys, keystore_master_keys
    TO {service};
GRANT SELECT (company_id, created_at, updated_at) ON whatsapp_auth TO {monitor};
GRANT SELECT (company_id, key_type, key_id, created_at, updated_at, expires_at) ON whatsapp_keys TO {monitor};
GRANT SELECT ON
    keystore_company_leases, keystore_counters, keystore_history, keystore_leases, keystore_notes, keystore_policy,
    keystore_settings, keystore_sweeps
    TO {monitor};
GRANT SELECT (company_id, trashed_at, key_type, key_id, reason, created_at, updated_at, expires_at) ON keystore_trash TO {monitor};
GRANT SELECT (company_id, key_id, made_at) ON keystore_data_keys TO {monitor};
GRANT SELECT ON keystore_master_keys TO {monitor};
GRANT SELECT ON _yoyo_migration TO {service}, {monitor};

-- Row-level security hides every row from a role without a policy.
DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY[
        'whatsapp_auth', 'whatsapp_keys', 'keystore_company_leases', 'keystore_counters', 'keystore_displaced',
        'keystore_history', 'keystore_leases', 'keystore_logins', 'keystore_notes', 'keystore_policy', 'keystore_settings',
        'keystore_sweeps', 'keystore_tokens', 'keystore_trash', 'keystore_data_keys', 'keystore_master_keys', '_yoyo_migration']
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS {service} ON %I', relation);
        EXECUTE format('CREATE POLICY {service} ON %I TO {service} USING (true) WITH CHECK (true)', relation);
        EXECUTE format('DROP POLICY IF EXISTS {monitor} ON %I', relation);
        EXECUTE format('CREATE POLICY {monitor} ON %I FOR SELECT TO {monitor} USING (true)', relation);
    END LOOP;
END $$;

-- The functions: all for the service, but those that make and end logins; the counting ones for the monitor.
DO $$
DECLARE
    called record;
BEGIN
    FOR called IN
        SELECT p.oid::regprocedure AS signature, p.proname FROM pg_proc p
        WHERE p.pronamespace = '{schema}'::regnamespace AND p.proname LIKE 'keystore\_%'
          AND p.proname NOT LIKE 'keystore\_bot\_%' AND p.proname NOT LIKE '%\_login'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {service}', called.signature);
        IF called.proname IN ('keystore_census', 'keystore_life_counts', 'keystore_size') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {monitor}', called.signature);
        END IF;
    END LOOP;
END $$;
