"""Tests of backups: export, import and trial of an archive of every company."""
