"""Tests of the watch, in the rooms of `monitor/`."""
