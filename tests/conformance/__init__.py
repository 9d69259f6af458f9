"""The contract of `keystore/store.py` as tests that run on every backend."""
