-- depends: 20261126_03_bot_logins
-- When the lifetime took the place of a shorter one: no key is due by an expiry that the shorter one made.

SET LOCAL lock_timeout = '5s';

ALTER TABLE keystore_policy ADD COLUMN IF NOT EXISTS lengthened_at timestamptz;
