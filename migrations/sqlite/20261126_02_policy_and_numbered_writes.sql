-- depends: 20261125_02_access
-- The lifetimes of keys, and the numbers of the writes under a lease.

-- The first row in the order of `place` that matches a type holds its lifetime. A row matches one name, each name that has
-- a part, or any. ttl_s is null for types that never expire; step_s is the step to which an expiry is rounded up.
CREATE TABLE IF NOT EXISTS keystore_policy (
    place INTEGER PRIMARY KEY,
    key_type TEXT NOT NULL,
    matches TEXT NOT NULL CHECK (matches IN ('name', 'part', 'any')),
    ttl_s REAL CHECK (ttl_s > 0),
    step_s REAL NOT NULL CHECK (step_s > 0)
);

-- The number of the last write under an epoch of the company's lease. (A table of its own, because SQLite can't add a
-- column to the leases only where it is missing.)
CREATE TABLE IF NOT EXISTS keystore_company_writes (
    company_id TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL
) WITHOUT ROWID;
