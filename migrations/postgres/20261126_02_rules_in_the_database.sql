-- depends: 20261126_01_closed_sequences
-- The lifetimes of keys, for the functions in keystore/postgres/functions/, and the numbers of a lease's writes. It touches
-- none of the diary's tables, so `migrate --attach` applies this file too.

SET LOCAL lock_timeout = '5s';

-- The first row in the order of `place` that matches a type holds its lifetime. A row matches one name, each name that has
-- a part, or any. ttl_s is null for types that never expire; step_s is the step to which an expiry is rounded up.
CREATE TABLE IF NOT EXISTS keystore_policy (
    place integer PRIMARY KEY,
    key_type text NOT NULL,
    matches text NOT NULL CHECK (matches IN ('name', 'part', 'any')),
    ttl_s double precision CHECK (ttl_s > 0),
    step_s double precision NOT NULL CHECK (step_s > 0)
);

-- The number of the last write under the lease's epoch. Its update touches no index.
ALTER TABLE keystore_company_leases ADD COLUMN IF NOT EXISTS seq bigint NOT NULL DEFAULT 0;

-- Room for the next version of a row in its page: each numbered write makes one.
ALTER TABLE keystore_company_leases SET (fillfactor = 50);

-- Closed to everybody but its owner, as all of ours.
DO $$
DECLARE
    stranger text;
BEGIN
    ALTER TABLE keystore_policy ENABLE ROW LEVEL SECURITY;
    REVOKE ALL ON keystore_policy FROM PUBLIC;
    FOR stranger IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON keystore_policy FROM %I', stranger);
    END LOOP;
END $$;
