"""What a bot relies on, on every backend."""
