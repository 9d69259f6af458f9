"""PostgreSQL roles: `role create`, `role list`, `role revoke` for bots; `role print` for the service and a monitor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from commands.opening import command_settings, database
from commands.output import AsJson, show_note, show_report
from keystore.errors import InvalidInput
from keystore.invocation import command
from keystore.postgres.logins import BotLogins, login_of
from keystore.sql.store import SqlStore
from keystore.store import Store
from monitor.reports import terminal
from settings import Settings

Companies = Annotated[
    list[str], typer.Option("--company", metavar="COMPANY", help="A company of the bot; give it again for others.")
]

OUTCOMES = {
    "dropped": "its role is dropped",
    "kept": "its role stays, without any right: this role may not drop it",
    "absent": "its role was gone already",
}


def create(
    company: Companies,
    login: Annotated[str | None, typer.Option(metavar="NAME", help="The login's name; by default bot_COMPANY.")] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the SQL for a role that may make logins; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a bot its own PostgreSQL login, for its companies alone.

    The address is shown only now. A login that exists gets the companies too, and keeps its password.
    """
    settings = command_settings()
    with _logins(settings) as (store, logins):
        name = login or login_of(company)
        if only_print:
            made, sql = logins.statements(name, company, settings.quota)
            text = f"{sql}\n-- The bot's address: {made.address}"
        else:
            made, sql = logins.add(name, company, settings.quota), None
            text = made.address or f"the login {made.login} has its companies now: {', '.join(made.companies)}"
    if made.address is not None:
        show_note(f"the address of a bot in {store.database}; it is shown only now")
    report = {
        "database": store.database,
        "login": made.login,
        "companies": made.companies,
        "address": made.address,
        "statements": sql,
    }
    show_report(text, report, as_json)


def show(
    service: Annotated[str, typer.Option(metavar="NAME", help="The role of `serve`.")] = "keystore_service",
    monitor: Annotated[str, typer.Option(metavar="NAME", help="The role of a monitor.")] = "keystore_monitor",
    as_json: AsJson = False,
) -> None:
    """Print the SQL for the roles of the service and of a monitor.

    The service gets what `serve` needs and no more. The monitor counts keys and reads no value. Nothing is changed.
    """
    with _logins(command_settings()) as (store, logins):
        sql = logins.service_roles(service, monitor)
    show_report(sql.rstrip(), {"database": store.database, "statements": sql}, as_json)


def list_all(as_json: AsJson = False) -> None:
    """List the bots' logins with their companies."""
    with _logins(command_settings()) as (store, logins):
        listed = logins.all()
    rows = [
        (
            login.login,
            ", ".join(login.companies),
            f"{login.created_at:%Y-%m-%d}",
            "in force" if login.exists else "no role",
        )
        for login in listed
    ]
    show_note(f"logins in {store.database}:")
    text = terminal.logins(rows) if rows else f"there are no logins; `{command('role create --company X')}` makes one"
    show_report(text, {"database": store.database, "logins": listed}, as_json)


def revoke(
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="The login, as `role list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Take everything from a login at once, and drop its role."""
    with _logins(command_settings()) as (store, logins):
        outcome = logins.end(login)
    report = {"database": store.database, "login": login, "role": outcome}
    show_report(f"login {login} may do nothing in {store.database} any more; {OUTCOMES[outcome]}", report, as_json)


@contextmanager
def _logins(settings: Settings) -> Iterator[tuple[Store, BotLogins]]:
    """Open the store's logins. Raises InvalidInput for a database without them."""
    from keystore.postgres.link import PostgresLink  # It imports psycopg, which other commands need for an address.

    with database(settings) as store:
        link = store.link if isinstance(store, SqlStore) else None
        if not isinstance(link, PostgresLink):
            raise InvalidInput(
                f"{store.database}: only PostgreSQL has logins; a bot reaches this database through the service, "
                f"with a token of `{command('token create')}`"
            )
        if not store.converted:
            raise InvalidInput(
                f"{store.database}: only the watch is attached; `{command('migrate')}` converts it first"
            )
        yield store, BotLogins(link)
