-- depends: 20251007_create_whatsapp_auth_tables
-- The diary's three indexes of 2025-10-08 ("1075 ms to 743 ms"). Its live database first had the value in the
-- composite one as well (INCLUDE): a value of 112 KB does not fit an index row, and inserts failed until it was dropped.

-- A bot's open transaction holds these tables: give up rather than queue, and stall every bot behind us.
SET LOCAL lock_timeout = '5s';

DROP INDEX IF EXISTS idx_whatsapp_keys_company_type;

CREATE INDEX IF NOT EXISTS idx_whatsapp_keys_company_type_id ON whatsapp_keys (company_id, key_type, key_id);

CREATE INDEX IF NOT EXISTS idx_whatsapp_keys_expires_cleanup ON whatsapp_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_whatsapp_keys_type_company ON whatsapp_keys (key_type, company_id);
