"""The watch: what keeps a key store clean and tells its operator the truth about it. Imports keystore only."""
