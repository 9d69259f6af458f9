-- depends: 20261127_01_sealed_values
-- The companies of a token beside its first, company_id. It touches none of the diary's tables, so `migrate --attach`
-- applies this file too.

SET LOCAL lock_timeout = '5s';

ALTER TABLE keystore_tokens ADD COLUMN IF NOT EXISTS further_companies text[];
