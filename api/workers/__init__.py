"""The worker processes of the API: their supervisor, which runs in run.py's process, and the program of each worker.

`run.py` uses `config` and `supervisor`.
"""
