"""The life of the service: what runs in the background, the signals that end it, an orderly stop. run.py calls it."""
