"""The HTTP surface: a bot's operations, health, metrics and the status page. Imports keystore and monitor."""
