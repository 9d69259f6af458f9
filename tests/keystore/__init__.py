"""Tests of the store's pure parts; its promises are tested in `tests/conformance`."""
