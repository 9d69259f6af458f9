"""Readers of the states that other programs leave: one format a module, each with the interface in `dump_file.py`.

`recognition.py` finds the reader for a path, and is what the rest of the program calls.
"""
