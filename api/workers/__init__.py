"""The worker processes of the API: `run.py` starts their supervisor in its own process, which starts the workers."""
