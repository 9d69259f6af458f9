"""Tests of sweeping, repairing and seeding."""
