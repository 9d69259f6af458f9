-- The diary's first schema, as its bots made it on 2025-10-07, so that their databases can be adopted in place:
-- every statement leaves alone what is there already. What later turned out wrong is mended by later files.

-- A bot's open transaction holds these tables: give up rather than queue, and stall every bot behind us.
SET LOCAL lock_timeout = '5s';

CREATE TABLE IF NOT EXISTS whatsapp_auth (
    company_id text PRIMARY KEY,
    creds jsonb NOT NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS whatsapp_keys (
    company_id text NOT NULL,
    key_type text NOT NULL,
    key_id text NOT NULL,
    value jsonb NOT NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (company_id, key_type, key_id)
);

CREATE INDEX IF NOT EXISTS idx_whatsapp_auth_company ON whatsapp_auth (company_id);

CREATE INDEX IF NOT EXISTS idx_whatsapp_keys_company ON whatsapp_keys (company_id);

CREATE INDEX IF NOT EXISTS idx_whatsapp_keys_type ON whatsapp_keys (key_type);

CREATE INDEX IF NOT EXISTS idx_whatsapp_keys_expires ON whatsapp_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_whatsapp_keys_company_type ON whatsapp_keys (company_id, key_type);

CREATE OR REPLACE FUNCTION update_whatsapp_auth_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION update_whatsapp_keys_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER trigger_whatsapp_auth_updated_at
    BEFORE UPDATE ON whatsapp_auth FOR EACH ROW EXECUTE FUNCTION update_whatsapp_auth_updated_at();

CREATE OR REPLACE TRIGGER trigger_whatsapp_keys_updated_at
    BEFORE UPDATE ON whatsapp_keys FOR EACH ROW EXECUTE FUNCTION update_whatsapp_keys_updated_at();

-- Where row-level security is on already, its policies are the operator's: adding this one could open what is closed.
DO $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN
        SELECT oid FROM pg_class
        WHERE oid IN ('whatsapp_auth'::regclass, 'whatsapp_keys'::regclass) AND NOT relrowsecurity ORDER BY oid
    LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = relation) THEN
            EXECUTE format('CREATE POLICY %I ON %s USING (true) WITH CHECK (true)',
                           'Allow service role full access to ' || relation, relation);
        END IF;
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    END LOOP;
END $$;
