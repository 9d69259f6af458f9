"""Shared by tests and measurements: a PostgreSQL server, a relay, the program as a process, npm, real Baileys state."""
