"""The parts that both SQL backends share. The backends use them, and `opening.py`, `schema.py` and `migrate.py`."""
