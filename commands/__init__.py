"""The command line: one module for each kind of command. Only run.py calls it, with the wiring of the service."""
