"""The whole program as its users have it: `run.py` as a process, with an environment, signals and exit codes."""
