"""Pure parts and house rules: no database, no network."""
