"""Many companies at once: reconnect storms, restarts, steady traffic, and a locust storm."""
