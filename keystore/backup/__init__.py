"""Backups: a snapshot of every company as of one moment, and the keys that seal and open an archive."""
