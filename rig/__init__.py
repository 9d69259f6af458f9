"""Shared by tests and measurements: a PostgreSQL server, a TCP relay, the program as a process, real Baileys state."""
