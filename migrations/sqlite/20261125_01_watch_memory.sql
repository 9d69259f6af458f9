-- depends: 20261124_01_keystore
-- What the watch remembers: small notes by name, and series over time, which it thins.

CREATE TABLE IF NOT EXISTS keystore_notes (
    name TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS keystore_history (
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, at)
) WITHOUT ROWID;
