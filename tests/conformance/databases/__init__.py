"""Tests of one database only: Postgres or SQLite."""
