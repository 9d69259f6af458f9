"""Readers of other programs' dumps."""
