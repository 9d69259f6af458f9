"""Bringing back what was deleted, and erasing what must go: the trash, a database that went back, a company's purge."""
