"""Backups of every company: one archive with checksums, sealed with a secret key; its import and its trial."""
