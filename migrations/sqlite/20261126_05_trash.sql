-- depends: 20261126_04_longer_lifetimes
-- What was deleted or replaced by a decision, for a while: see keystore/postgres/functions/trash.sql.

-- The creds have an empty type and id. All that one operation put here has one trashed_at in its company. Values are in
-- their stored form.
CREATE TABLE IF NOT EXISTS keystore_trash (
    company_id TEXT NOT NULL,
    trashed_at INTEGER NOT NULL,
    key_type TEXT NOT NULL,
    key_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    value BLOB NOT NULL,
    created_at INTEGER,
    updated_at INTEGER,
    expires_at INTEGER,
    PRIMARY KEY (company_id, trashed_at, key_type, key_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS keystore_settings (
    name TEXT NOT NULL PRIMARY KEY,
    value REAL NOT NULL
) WITHOUT ROWID;
