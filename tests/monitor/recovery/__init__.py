"""Tests of the trash, of restoring, and of erasing a company."""
