"""Reports: `check`, `types`, `growth`, `perf`, `doctor`."""

from functools import partial
from typing import Annotated

import typer

from commands.opening import command_settings, opened_store
from commands.output import AsJson, show_report
from keystore.ttl import parse_policy
from monitor.growth import growth_report
from monitor.reports import terminal
from monitor.reports.check import check_report
from monitor.reports.doctor import DoctorCheck, DoctorReport, examine
from monitor.reports.key_types import types_report
from monitor.reports.perf import ROUNDS, perf_report
from monitor.running.progress import progress_bar
from monitor.telegram.chats import Chat
from monitor.telegram.client import check_bot, check_chat_numbers
from settings import SettingsError


def check(as_json: AsJson = False) -> None:
    """Count the keys, judge the state of the table and the sweeper, and say what to do."""
    settings = command_settings()
    with opened_store(settings) as store:
        report = check_report(store, settings.sweep_every_s)
    show_report(terminal.check(report), report, as_json)


def types(as_json: AsJson = False) -> None:
    """Count the keys by type, with and without an expiry."""
    with opened_store(command_settings()) as store:
        report = types_report(store)
    show_report(terminal.types(report), report, as_json)


def growth(
    ttl: Annotated[
        str | None,
        typer.Option(metavar="TYPE=LIFE,…", help="What if: forecast under these lifetimes too (pre-key=14d)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how fast keys come, how many there will be, and how wrong earlier forecasts were."""
    settings = command_settings()
    what_if = None if ttl is None else parse_policy(ttl, settings.ttl)
    with opened_store(settings) as store:
        report = growth_report(store, what_if)
    show_report(terminal.growth(report), report, as_json)


def perf(
    company: Annotated[
        str | None, typer.Option(help="The company whose state is loaded; default: the one with the most keys.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often to time each operation.")] = ROUNDS,
    as_json: AsJson = False,
) -> None:
    """Time load, get and burst on the live database, against the budget. The keys it writes are removed again."""
    settings = command_settings()
    with opened_store(settings) as store, progress_bar("timing") as progress:
        report = perf_report(store, settings.load_budget_ms, company, rounds=rounds, progress=progress)
    show_report(terminal.perf(report), report, as_json)


def doctor(as_json: AsJson = False) -> None:
    """Look at settings, database, schema, clock, permissions and Telegram; say what to fix. Exits 1 if one failed."""
    try:
        settings = command_settings()
    except SettingsError as error:
        report = DoctorReport((DoctorCheck("settings", "failed", str(error)),))
    else:
        open_store = partial(opened_store, settings)
        token, proxy = (
            None if secret is None else secret.get_secret_value()
            for secret in (settings.telegram_token, settings.telegram_proxy)
        )
        chats = [Chat(*chat) for chat in settings.telegram_chats]
        telegram = check_bot(token, chats, settings.telegram_api_url, proxy)
        report = examine(
            open_store,
            settings.ttl,
            guard=settings.guard,
            telegram=telegram,
            more=partial(check_chat_numbers, token, chats),
        )
    show_report(terminal.doctor(report), report, as_json)
    if not report.healthy:
        raise typer.Exit(1)
