"""Each operation beside the bare driver; `python -m pytest bench` holds each to a limit."""
