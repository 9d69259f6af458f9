"""Measurements: the store against plain drivers, against other stores for bots, and against its targets.

Each is a command (`python -m bench.X`); nothing outside of `bench` and its tests imports from here.
"""
