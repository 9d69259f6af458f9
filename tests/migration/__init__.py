"""Tests of migrations: new tables, adopted ones, tables attached to, and everything that can fail on the way."""
