"""The parts that both SQL backends share. Only the two backends, `opening.py`, `schema.py` and `migrate.py` use them."""
