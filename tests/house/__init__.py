"""Tests of the whole house: imports and settings."""
