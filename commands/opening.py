"""The settings and the store of a command."""

from keystore.opening import open_store
from keystore.store import Store
from monitor.running import logs
from settings import Settings, read_settings


def command_settings() -> Settings:
    """The settings, with logging set up for a command. Raises SettingsError."""
    settings = read_settings()
    logs.configure(settings.log, verbose=False)
    return settings


def opened_store(settings: Settings) -> Store:
    """The store that the settings name; the caller closes it. Raises KeystoreError."""
    return open_store(
        settings.url.get_secret_value(),
        policy=settings.ttl,
        guard=settings.guard,
        max_connections=settings.connections,
    )
