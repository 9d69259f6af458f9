"""Commands that change what is stored: `migrate`, `sweep`, `backfill`, `repair`, `seed`."""

from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

import typer

from commands.opening import command_settings, database, opened_link
from commands.output import AsJson, DryRun, show_note, show_report
from keystore.errors import InvalidInput
from keystore.ids import canonical_company
from keystore.opening import replace_policy
from keystore.schema import UPKEEP_MIGRATIONS, schema_of
from monitor import sweeper
from monitor.forecast.daily_records import try_daily_records
from monitor.reports import terminal
from monitor.reports.formatting import counted
from monitor.running.progress import progress_bar
from monitor.upkeep import demo
from monitor.upkeep.backfill import backfill_expiries
from monitor.upkeep.repair import repair_rows


def migrate_tables(
    attach: Annotated[
        bool, typer.Option("--attach", help="Add only our own tables, beside a running bot that writes jsonb.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's tables to this version.

    If a bot writes the tables directly, stop it first, or use --attach.
    """
    from keystore import migrate  # It imports yoyo, which no other command needs.

    settings = command_settings()
    applied: Sequence[str] = ()
    pending: Sequence[str] = ()
    with closing(opened_link(settings, create=not dry_run)) as link:
        if dry_run:
            current = schema_of(link)
            pending = [name for name in current.pending if not attach or name in UPKEEP_MIGRATIONS]
            if not pending and current.functions_outdated:
                pending = [migrate.FUNCTIONS]
        else:
            applied = migrate.attach_upkeep(link) if attach else migrate.migrate(link)
            replace_policy(link, settings.ttl)
    lines = [*(f"applied: {name}" for name in applied), *(f"to apply: {name}" for name in pending)]
    report = {"database": link.name, "applied": applied, "pending": pending}
    show_note(f"{'would migrate' if dry_run else 'migrated'} {link.name}")
    show_report("\n".join(lines) or "nothing to apply", report, as_json)


def sweep(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete expired keys now. Keys that a guard protects stay."""
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
        bool, typer.Option("--enforce", help="Then make the database refuse keys without an expiry.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give an expiry to every key that has none.

    Expiries count from now. It can be stopped at any time, and the next run continues.
    """
    with database(command_settings()) as store, progress_bar("backfill") as progress:
        report = backfill_expiries(store, enforce=enforce, dry_run=dry_run, progress=progress)
    show_report(terminal.backfill(report), report, as_json)


def repair(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Correct keys that were imported under a wrong type.

    A row with type `lid` and id `mapping-123` becomes `lid-mapping` and `123`, unless a newer row has that name.
    """
    with database(command_settings()) as store, progress_bar("repair") as progress:
        report = repair_rows(store, dry_run=dry_run, progress=progress)
    show_report(terminal.repair(report), report, as_json)


def seed(
    company: Annotated[
        str, typer.Option(metavar="COMPANY", help="The demo company; it must not have keys yet.")
    ] = demo.COMPANY,
    yes: Annotated[bool, typer.Option("--yes", help="Also write beside companies that aren't the demo.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write demo data: 665 keys for a company of its own.

    609 of the keys have no expiry. The data are written beside other companies only with --yes.
    """
    with database(command_settings(), create=True) as store:
        others = sum(name not in (demo.COMPANY, canonical_company(company)) for name in store.companies())
        if others and not yes:
            raise InvalidInput(
                f"{store.database} has {counted(others, 'company', 'companies')} beside the demo; "
                "seed another database, or repeat with --yes"
            )
        report = demo.seed(store, company)
    written = f"{report.keys:,} keys for company {report.company} in {report.database}"
    show_report(f"{written}, {report.without_expiry:,} without expiry", report, as_json)
