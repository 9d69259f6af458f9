-- depends: 20261127_02_tokens_of_several_companies
-- The nonce of the sealed value that a row should have: see docs/sealing.md, "What is refused". It is null for plain values, and
-- for those that were sealed before this file. Adding the columns changes no row.

-- A bot's open transaction holds these tables: give up rather than queue, and stall every bot behind us.
SET LOCAL lock_timeout = '5s';

ALTER TABLE whatsapp_keys ADD COLUMN IF NOT EXISTS value_nonce bytea;

ALTER TABLE whatsapp_auth ADD COLUMN IF NOT EXISTS creds_nonce bytea;
