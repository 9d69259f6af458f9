"""Tests of one database only, Postgres or SQLite, and of the lifetimes that a database holds."""
