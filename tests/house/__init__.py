"""Tests of the whole project: imports, settings, and a check of its English."""
