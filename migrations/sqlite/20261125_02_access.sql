-- depends: 20261125_01_watch_memory
-- Who may write a company's keys now, and who may come in.

-- epoch rises with each time that the lease is taken, so that a stale writer is found out; so a row stays when it ends.
CREATE TABLE IF NOT EXISTS keystore_company_leases (
    company_id TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

-- API tokens: the SHA-256 of a secret, never the secret. Without a company it is an admin's.
CREATE TABLE IF NOT EXISTS keystore_tokens (
    token_id TEXT NOT NULL PRIMARY KEY,
    secret_hash BLOB NOT NULL,
    company_id TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) WITHOUT ROWID;
