"""Faults under load: real servers that are killed, cut off and replaced, and what was acknowledged must be there.

They take minutes, so they are a command of their own: `python -m pytest -m faults tests/faults -s`.
"""
