"""The bot's half of the contract, on every backend."""
