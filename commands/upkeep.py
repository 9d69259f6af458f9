"""Commands that change what is stored: `migrate`, `sweep`, `backfill`, `repair`, `seed`."""

from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

import typer

from commands.opening import command_settings, database, opened_link
from commands.output import AsJson, DryRun, show_note, show_report
from keystore import migrate
from monitor import sweeper
from monitor.forecast.daily_records import try_daily_records
from monitor.reports import terminal
from monitor.running.progress import progress_bar
from monitor.upkeep import demo
from monitor.upkeep.backfill import backfill_expiries
from monitor.upkeep.repair import repair_rows


def migrate_tables(
    attach: Annotated[
        bool, typer.Option("--attach", help="Add only our own tables, beside a bot that goes on writing jsonb.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's tables to this version. For tables written by older bots, stop the bots or use --attach."""
    settings = command_settings()
    applied: Sequence[str] = ()
    pending: Sequence[str] = ()
    with closing(opened_link(settings, create=not dry_run)) as link:
        if dry_run:
            pending = [
                name for name in migrate.schema_of(link).pending if not attach or name in migrate.UPKEEP_MIGRATIONS
            ]
        else:
            applied = migrate.attach_upkeep(link) if attach else migrate.migrate(link)
    lines = [*(f"applied: {name}" for name in applied), *(f"to apply: {name}" for name in pending)]
    report = {"database": link.name, "applied": applied, "pending": pending}
    show_note(f"{'would migrate' if dry_run else 'migrated'} {link.name}")
    show_report("\n".join(lines) or "nothing to apply", report, as_json)


def sweep(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete expired keys now, except guarded ones."""
    with database(command_settings()) as store, progress_bar("sweep") as progress:
        if dry_run:
            by_type = sweeper.due_now(store.census())
            report = sweeper.SweepReport(store.database, sum(by_type.values()), by_type, 0.0, dry_run=True)
        else:
            report = sweeper.sweep(store, progress=progress)
            if not report.skipped:
                try_daily_records(store)  # If only this command is run, by cron, growth has a history all the same.
    show_report(terminal.sweep(report), report, as_json)


def backfill(
    enforce: Annotated[
        bool, typer.Option("--enforce", help="Then make the database refuse a key without an expiry.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give every key without an expiry one, counted from now. Stop it at any time; the next run goes on."""
    with database(command_settings()) as store, progress_bar("backfill") as progress:
        report = backfill_expiries(store, enforce=enforce, dry_run=dry_run, progress=progress)
    show_report(terminal.backfill(report), report, as_json)


def repair(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Move rows of a mis-split type (`lid` / `mapping-123`) to the type they belong to, unless a newer row is there."""
    with database(command_settings()) as store, progress_bar("repair") as progress:
        report = repair_rows(store, dry_run=dry_run, progress=progress)
    show_report(terminal.repair(report), report, as_json)


def seed(
    company: Annotated[str, typer.Option(help="The demo company; it must not have keys yet.")] = "demo",
    as_json: AsJson = False,
) -> None:
    """Write the demo data set: 665 keys, 609 of them without an expiry, for a company of its own."""
    with database(command_settings(), create=True) as store:
        report = demo.seed(store, company)
    written = f"{report.keys} keys for company {report.company} in {report.database}"
    show_report(f"{written}, {report.without_expiry} without expiry", report, as_json)
