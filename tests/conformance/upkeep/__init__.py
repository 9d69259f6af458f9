"""The upkeep half of the contract, on every backend."""
