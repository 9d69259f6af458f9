-- depends: 20261126_05_trash
-- The keys of sealed values: see docs/sealing.md.

-- The data key that seals a company's values, itself sealed by a master key. Without its row the values are gone for good.
CREATE TABLE IF NOT EXISTS keystore_data_keys (
    company_id TEXT NOT NULL PRIMARY KEY,
    key_id BLOB NOT NULL,
    sealed_key BLOB NOT NULL,
    made_at INTEGER NOT NULL
) WITHOUT ROWID;

-- The master keys that sealed a data key. Each has a text that it sealed too, so that a wrong key is noticed at opening.
CREATE TABLE IF NOT EXISTS keystore_master_keys (
    key_id BLOB NOT NULL PRIMARY KEY,
    canary BLOB NOT NULL,
    made_at INTEGER NOT NULL
) WITHOUT ROWID;
