-- depends: 20261126_02_policy_and_numbered_writes
-- When a lifetime took the place of a shorter one, in microseconds since 1970: no key is due by an expiry that the shorter
-- one made. (A table of its own, because SQLite can't add a column to keystore_policy only where it is missing.)

CREATE TABLE IF NOT EXISTS keystore_longer_lifetimes (
    place INTEGER PRIMARY KEY,
    lengthened_at INTEGER
);
