"""Commands that bring back or erase: `trash`, `restore`, `rolled-back`, `purge`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from commands.opening import command_settings, database
from commands.output import PARTIAL, AsJson, DryRun, Yes, ask, show_report
from keystore.errors import InvalidInput
from monitor.recovery import purge as purging
from monitor.recovery import trash as listing
from monitor.recovery.restore import restore_company
from monitor.recovery.rolled_back import drop_ratchets
from monitor.reports import recovery_texts
from monitor.running.progress import progress_bar

Company = Annotated[str, typer.Option(metavar="COMPANY", help="The company.")]


def trash(
    company: Annotated[str | None, typer.Option(metavar="COMPANY", help="Only this company's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the states that `restore` can bring back."""
    with database(command_settings(), without_values=True) as store:
        report = listing.trash_report(store, company)
    show_report(recovery_texts.trash(report), report, as_json)


def restore(
    company: Company,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", help="Bring back the state of this time (UTC).")
    ] = None,
    creds_only: Annotated[
        bool, typer.Option("--creds", help="Bring back only creds, from a deletion or from a day's version.")
    ] = False,
    fresh_sessions: Annotated[
        bool, typer.Option("--fresh-sessions", help="Leave out the ratchets, if the account was used since.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring back a company's state from the trash. Stop its bot first.

    The company's present state goes to the trash in its place. If a bot used the account after the deletion, old
    sessions can't read messages that were sent since. Then add --fresh-sessions, and the bot agrees on new ones.
    """
    with database(command_settings()) as store:
        report = restore_company(
            store,
            company,
            as_of=None if as_of is None else _time(as_of),
            creds_only=creds_only,
            fresh_sessions=fresh_sessions,
            dry_run=dry_run,
        )
    show_report(recovery_texts.restore(report), report, as_json)


def rolled_back(
    company: Annotated[
        list[str] | None, typer.Option(metavar="COMPANY", help="Only this company; may be repeated.")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a database safe that was restored from a backup. Stop all bots first.

    It drops sessions, sender keys and sender-key memories, and bots agree on new ones. It moves the pre-key counters in
    the creds past the ids that were given out since the backup. The former state goes to the trash.
    """
    with database(command_settings()) as store, progress_bar("rolled-back") as progress:
        if not dry_run and not yes:
            ask(f"Drop the sessions of {'every company' if not company else ', '.join(company)} in {store.database}?")
        report = drop_ratchets(store, company or None, dry_run=dry_run, progress=progress)
    show_report(recovery_texts.rolled_back(report), report, as_json)
    if report.leased:
        raise typer.Exit(PARTIAL)


def purge(company: Company, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Erase everything that names a company, for good.

    That includes its trash, counts and tokens. Nothing can bring it back.
    """
    with database(command_settings(), without_values=True) as store:
        if not dry_run and not yes:
            ask(f"Erase everything of company {company} from {store.database}, for good?")
        report = purging.purge_company(store, company, dry_run=dry_run)
    show_report(recovery_texts.purge(report), report, as_json)


def _time(text: str) -> datetime:
    """Return the time meant by `2026-11-26 14:30` (UTC, unless it has a zone), or `2h` ago. Raises InvalidInput."""
    if ago := re.fullmatch(r"(\d{1,5})([mhd])", text.strip()):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(ago[1])})
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(
            f"--as-of {text!r}: expected a time such as 2026-11-26 14:30 (UTC), or 2h for two hours ago"
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
