"""What the watch relies on, on every backend."""
