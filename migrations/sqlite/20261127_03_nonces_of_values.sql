-- depends: 20261127_02_tokens_of_several_companies
-- The nonce of the sealed value that a row should have: see docs/sealing.md, "What is refused". It is null for plain values, and
-- for those that were sealed before this file.

ALTER TABLE whatsapp_keys ADD COLUMN value_nonce BLOB;

ALTER TABLE whatsapp_auth ADD COLUMN creds_nonce BLOB;
