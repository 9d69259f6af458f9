"""What holds on one of the databases alone."""
