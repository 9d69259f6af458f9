-- depends: 20261127_01_sealed_values
-- The companies of a token beside its first, keystore_tokens.company_id, in the order of `place`. (A table of its own,
-- because SQLite can't add a column to the tokens only where it is missing.)
CREATE TABLE IF NOT EXISTS keystore_token_companies (
    token_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    company_id TEXT NOT NULL,
    PRIMARY KEY (token_id, place)
) WITHOUT ROWID;
