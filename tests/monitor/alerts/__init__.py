"""Tests of alerts, the watch and the outbox."""
