"""Reads the settings and opens the store, for a command: which database it is, and where its address comes from."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlsplit

import typer

from commands.output import show_note
from keystore.errors import InvalidInput, KeystoreError
from keystore.opening import make_tables, open_link, open_store
from keystore.schema import DatabaseLink
from keystore.store import Store
from monitor.running import logs
from settings import Settings, read_settings

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="The database to use instead of KEYSTORE_URL. A process list shows a password in it.",
    ),
]
DatabaseFile = Annotated[
    Path | None, typer.Option("--database-file", metavar="FILE", help="The same for an SQLite file.")
]

_chosen: ContextVar[str | None] = ContextVar("chosen_database", default=None)
"""The address that the command line names, while its command runs."""


@contextmanager
def no_database_chosen() -> Iterator[None]:
    """Forget after the block the database that a command line names in it."""
    token = _chosen.set(None)
    try:
        yield
    finally:
        _chosen.reset(token)


def choose_database(database: str | None, database_file: Path | None) -> None:
    """Take the database that the command line names, if it names one."""
    if database is not None and database_file is not None:
        raise typer.BadParameter("--database and --database-file: give one of them")
    if database_file is not None:
        database = f"sqlite:///{quote(str(database_file.absolute()))}"
    if database is not None:
        _chosen.set(database.strip())


def with_database_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return the command with `--database` and `--database-file` beside its own options."""

    @wraps(function)
    def with_options(*args: Any, database: str | None, database_file: Path | None, **options: Any) -> None:
        choose_database(database, database_file)
        function(*args, **options)

    own = inspect.signature(function, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in (("database", DatabaseUrl), ("database_file", DatabaseFile))
    ]
    with_options.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    return with_options


def chosen_settings() -> Settings:
    """Read the settings, with the database that the command line names. Raises SettingsError."""
    return read_settings(database=_chosen.get())


def command_settings() -> Settings:
    """Read the settings, and set up logging for a command. Raises SettingsError."""
    settings = chosen_settings()
    logs.configure(settings.log, verbose=False)
    return settings


def opened_store(settings: Settings, *, create: bool = False, without_values: bool = False) -> Store:
    """Open the store that the settings name; the caller closes it.

    Only with `create` are tables made, and the lifetimes in the database replaced by those of the settings. A command
    that reads no values opens the store also `without_values`: without the secret key. Raises KeystoreError.
    """
    with _address_named(settings):
        return open_store(
            settings.url.get_secret_value(),
            policy=settings.ttl if create else None,
            trash_s=settings.trash_s if create else None,
            guard=settings.guard,
            quota=settings.quota,
            secret_keys=settings.read_secret_keys(),
            without_values=without_values,
            max_connections=settings.connections,
            create=create,
        )


def opened_link(settings: Settings, *, create: bool) -> DatabaseLink:
    """Open the database that the settings name, with any tables. The caller closes it. Raises KeystoreError."""
    with _address_named(settings):
        return open_link(settings.url.get_secret_value(), create=create)


def require_other_database(url: str, settings: Settings) -> None:
    """Raise InvalidInput if an address names the database of the settings."""
    if _place(url) == _place(settings.url.get_secret_value()):
        raise InvalidInput("--scratch names the database of KEYSTORE_URL; name an empty one that nothing else uses")


def _place(url: str) -> tuple[str, ...]:
    """Return the file, or the server and the name, of an address, without its login."""
    parts = urlsplit(url.strip())
    if parts.scheme == "sqlite":
        return (str(Path(unquote(parts.path)[1:]).resolve()),)
    server = parts.netloc.rpartition("@")[2].lower()
    return server if ":" in server else f"{server}:5432", unquote(parts.path), parts.query


@contextmanager
def database(settings: Settings, *, create: bool = False, without_values: bool = False) -> Iterator[Store]:
    """Open the store for a command's block. With `create`, missing tables are made, and a note says so.

    A command that reads no values opens the store also `without_values`: without the secret key.

    Raises KeystoreError. An error of the block names the database too.
    """
    if create:
        with closing(opened_link(settings, create=True)) as link:
            if make_tables(link, settings.ttl):
                show_note(f"made the tables of Signal Keystore in {link.name}")
    with opened_store(settings, without_values=without_values) as store:
        try:
            yield store
        except KeystoreError as error:
            _amend(error, f"{store.database}: {error}", unless=store.database)
            raise


@contextmanager
def _address_named(settings: Settings) -> Iterator[None]:
    """Add to an error of opening where the address comes from."""
    try:
        yield
    except KeystoreError as error:
        _amend(error, f"{error} (the address comes from {settings.url_source})", unless=settings.url_source)
        raise


def _amend(error: KeystoreError, message: str, unless: str) -> None:
    """Replace an error's message, unless it holds this text already."""
    if unless not in str(error):
        error.args = (message, *error.args[1:])
