"""The statements of the PostgreSQL backend, by name. Reading them needs no driver."""

from pathlib import Path

from keystore.sql.statements import read_statements

STATEMENTS = read_statements(Path(__file__).with_suffix(".sql"))
