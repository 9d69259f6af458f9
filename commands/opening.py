"""Reads the settings and opens the store, for a command."""

from keystore.opening import open_store
from keystore.store import Store
from monitor.running import logs
from settings import Settings, read_settings


def command_settings() -> Settings:
    """Read the settings, and set up logging for a command. Raises SettingsError."""
    settings = read_settings()
    logs.configure(settings.log, verbose=False)
    return settings


def opened_store(settings: Settings) -> Store:
    """Open the store that the settings name; the caller closes it. Raises KeystoreError."""
    return open_store(
        settings.url.get_secret_value(),
        policy=settings.ttl,
        guard=settings.guard,
        quota=settings.quota,
        max_connections=settings.connections,
    )
