-- The whole schema of the embedded database. Times are microseconds since 1970 UTC; the largest integer stands for
-- never. `sqlite3 keystore.db "select datetime(expires_at / 1000000, 'unixepoch'), * from whatsapp_keys"` reads them.

CREATE TABLE IF NOT EXISTS whatsapp_auth (
    company_id TEXT NOT NULL PRIMARY KEY,
    creds BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS whatsapp_keys (
    company_id TEXT NOT NULL,
    key_type TEXT NOT NULL,
    key_id TEXT NOT NULL,
    value BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (company_id, key_type, key_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS whatsapp_keys_expiry ON whatsapp_keys (expires_at);

CREATE TABLE IF NOT EXISTS keystore_leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS keystore_sweeps (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    sweeper TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    took_ms REAL NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    by_type TEXT NOT NULL DEFAULT '{}',
    error TEXT
);

CREATE TABLE IF NOT EXISTS keystore_counters (
    company_id TEXT NOT NULL,
    hour INTEGER NOT NULL,
    key_type TEXT NOT NULL,
    event TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (company_id, hour, key_type, event)
) WITHOUT ROWID;
