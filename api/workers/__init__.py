"""The API's worker processes: their supervisor in run.py's process, and what runs in each."""
