"""Reports: `check`, `types`, `growth`, `perf`, `doctor`."""

from functools import partial
from typing import Annotated

import typer

from commands.opening import command_settings, database, opened_store
from commands.output import CRITICAL, OK, UNKNOWN, WARNING, AsJson, show_error, show_report
from keystore.errors import KeystoreError
from keystore.ttl import parse_policy
from monitor.growth import growth_report
from monitor.reports import terminal
from monitor.reports.check import check_report
from monitor.reports.doctor import DoctorCheck, DoctorReport, examine
from monitor.reports.key_types import types_report
from monitor.reports.perf import ROUNDS, perf_report
from monitor.running.progress import progress_bar
from monitor.telegram.chats import Chat
from settings import SettingsError


def check(
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="For cron: exit with 0 if ok, 1 warning, 2 critical, 3 no answer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Count the keys, and say what needs attention."""
    try:
        settings = command_settings()
        with database(settings, without_values=True) as store:
            report = check_report(store, settings.sweep_every_s)
    except KeystoreError as error:
        if not exit_code:
            raise
        raise typer.Exit(show_error(str(error), UNKNOWN, as_json=as_json)) from error
    show_report(terminal.check(report), report, as_json)
    if exit_code:
        raise typer.Exit({"ok": OK, "warning": WARNING, "critical": CRITICAL}[report.verdict])


def types(as_json: AsJson = False) -> None:
    """Count the keys by type, with and without an expiry."""
    with database(command_settings(), without_values=True) as store:
        report = types_report(store)
    show_report(terminal.types(report), report, as_json)


def growth(
    ttl: Annotated[
        str | None,
        typer.Option(metavar="TYPE=LIFE,…", help="Forecast under these lifetimes too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the number of keys, and judge earlier forecasts."""
    settings = command_settings()
    what_if = None if ttl is None else parse_policy(ttl, settings.ttl)
    with database(settings, without_values=True) as store:
        report = growth_report(store, what_if)
    show_report(terminal.growth(report), report, as_json)


def perf(
    company: Annotated[
        str | None, typer.Option(metavar="COMPANY", help="Load this company's state; by default, the largest one's.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Time each operation N times.")] = ROUNDS,
    as_json: AsJson = False,
) -> None:
    """Time load, get and burst on the live database.

    Load and burst together are compared with the budget. The keys that it writes are removed again.
    """
    settings = command_settings()
    with database(settings) as store, progress_bar("timing") as progress:
        report = perf_report(store, settings.load_budget_ms, company, rounds=rounds, progress=progress)
    show_report(terminal.perf(report), report, as_json)


def doctor(as_json: AsJson = False) -> None:
    """Check the installation, and say what to fix.

    It looks at settings, database, schema, clock, permissions and Telegram, and exits with 1 if a check failed.
    """
    try:
        settings = command_settings()
    except SettingsError as error:
        report = DoctorReport((DoctorCheck("settings", "failed", str(error)),))
    else:
        from monitor.telegram.client import check_bot, check_chat_numbers  # It imports requests.

        open_store = partial(opened_store, settings, without_values=True)
        token, proxy = (
            None if secret is None else secret.get_secret_value()
            for secret in (settings.telegram_token, settings.telegram_proxy)
        )
        chats = [Chat(*chat) for chat in settings.telegram_chats]
        telegram = check_bot(token, chats, settings.telegram_api_url, proxy)
        examined = examine(
            open_store,
            settings.ttl,
            guard=settings.guard,
            telegram=telegram,
            more=partial(check_chat_numbers, token, chats),
        )
        detail = f"read from {', '.join(settings.sources)}; the database's address from {settings.url_source}"
        report = DoctorReport((DoctorCheck("settings", "ok", detail), *examined.checks))
    show_report(terminal.doctor(report), report, as_json)
    if not report.healthy:
        raise typer.Exit(1)
