"""Faults between bots, service and database: black holes, half-open connections, a killed pooler."""
