"""Tests of lifetimes, of the guards that keep expired keys, and of expiries for keys that have none."""
