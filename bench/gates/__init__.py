"""Each operation of the store against the same work by the driver alone; `python -m pytest bench` holds the limits."""
