"""Commands that change what is stored: `migrate`, `sweep`, `backfill`, `repair`, `seed`."""

from typing import Annotated

import typer

from commands.opening import command_settings, opened_store
from commands.options import AsJson, DryRun
from commands.output import show_report
from keystore import migrate as migrations
from keystore.opening import open_link
from monitor import sweeper
from monitor.reports import terminal as render
from monitor.running.progress import progress_bar
from monitor.upkeep import backfill as backfilling
from monitor.upkeep import demo
from monitor.upkeep import repair as repairing


def migrate(
    attach: Annotated[
        bool, typer.Option("--attach", help="Add only our own tables, beside a bot that goes on writing jsonb.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's tables to this version. Stop the bots of a diary-shaped database first, or use --attach."""
    settings = command_settings()
    link = open_link(settings.url.get_secret_value())
    try:
        if dry_run:
            pending = migrations.schema_of(link).pending
            applied = [name for name in pending if not attach or name in migrations.UPKEEP_TABLES]
        else:
            applied = migrations.attach_upkeep(link) if attach else migrations.migrate(link)
    finally:
        link.close()
    verb = "to apply" if dry_run else "applied"
    text = "\n".join(f"{verb}: {name}" for name in applied) or "nothing to apply"
    show_report(
        text,
        {"database": link.name, "applied": [] if dry_run else applied, "pending": applied if dry_run else []},
        as_json,
    )


def sweep(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete expired keys now, guarded ones apart."""
    with opened_store(command_settings()) as store, progress_bar("sweep") as told:
        if dry_run:
            by_type = sweeper.due_now(store.census())
            report = sweeper.SweepReport(store.database, sum(by_type.values()), by_type, 0.0, dry_run=True)
        else:
            report = sweeper.sweep(store, progress=told)
    show_report(render.sweep(report), report, as_json)


def backfill(
    enforce: Annotated[
        bool, typer.Option("--enforce", help="Then make the database refuse a key without an expiry.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give every key without an expiry one, counted from now. Stop it at any time; the next run goes on."""
    with opened_store(command_settings()) as store, progress_bar("backfill") as told:
        report = backfilling.backfill(store, enforce=enforce, dry_run=dry_run, progress=told)
    show_report(render.backfill(report), report, as_json)


def repair(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Move rows of a mis-split type (`lid` / `mapping-123`) to the type they belong to, where nothing newer stands."""
    with opened_store(command_settings()) as store, progress_bar("repair") as told:
        report = repairing.repair(store, dry_run=dry_run, progress=told)
    show_report(render.repair(report), report, as_json)


def seed(
    company: Annotated[str, typer.Option(help="The demo company; it must not have keys yet.")] = "demo",
    as_json: AsJson = False,
) -> None:
    """Write the diary's data set: 665 keys, 609 of them without an expiry, for a company of its own."""
    with opened_store(command_settings()) as store:
        report = demo.seed(store, company)
    text = (
        f"{report.keys} keys for company {report.company} in {report.database}, {report.without_expiry} without expiry"
    )
    show_report(text, report, as_json)
