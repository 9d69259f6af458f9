"""Commands that change what is stored: `migrate`, `sweep`, `backfill`, `repair`, `rotate`, `seed`."""

from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

import typer

from commands.opening import command_settings, database, opened_link
from commands.output import AsJson, DryRun, show_note, show_report
from keystore.errors import InvalidInput
from keystore.ids import canonical_company
from keystore.opening import replace_policy, replace_trash_life
from keystore.postgres.adoption import AdoptionChoices, AdoptionReport
from keystore.schema import UPKEEP_MIGRATIONS, schema_of
from monitor import sweeper
from monitor.forecast.daily_records import try_daily_records
from monitor.held_back import losing_most
from monitor.reports import terminal
from monitor.reports.formatting import counted
from monitor.running.progress import progress_bar
from monitor.upkeep import demo
from monitor.upkeep.backfill import backfill_expiries
from monitor.upkeep.repair import repair_rows
from monitor.upkeep.rotate import rotate_companies


def migrate_tables(
    attach: Annotated[
        bool, typer.Option("--attach", help="Add only our own tables, beside a running bot that writes jsonb.")
    ] = False,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Give a company of a bot's own tables an id that commands can name."),
    ] = None,
    keep_odd: Annotated[
        bool, typer.Option("--keep-odd", help="Convert values that no Baileys reads, as they are.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's tables to this version.

    If a bot writes the tables directly, stop it first, or use --attach. A bot's own tables are looked at before
    anything is changed.
    """
    from keystore import migrate  # It imports yoyo, which no other command needs.

    settings = command_settings()
    choices = AdoptionChoices(_renames(rename or ()), keep_odd)
    applied: Sequence[str] = ()
    pending: Sequence[str] = ()
    looks: list[AdoptionReport] = []
    with closing(opened_link(settings, create=not dry_run)) as link:
        if dry_run:
            current = schema_of(link)
            pending = [name for name in current.pending if not attach or name in UPKEEP_MIGRATIONS]
            if not pending and current.functions_outdated:
                pending = [migrate.FUNCTIONS]
            if not attach:
                looks += filter(None, [migrate.look(link, choices)])
        else:
            applied = (
                migrate.attach_upkeep(link) if attach else migrate.migrate(link, choices=choices, adopted=looks.append)
            )
            replace_policy(link, settings.ttl)
            replace_trash_life(link, settings.trash_s)
    adoption = looks[0] if looks else AdoptionReport()
    lines = [*(f"applied: {name}" for name in applied), *(f"to apply: {name}" for name in pending)]
    report = {"database": link.name, "applied": applied, "pending": pending, "adoption": adoption}
    show_note(f"{'would migrate' if dry_run else 'migrated'} {link.name}")
    show_report("\n".join([*lines, *_adoption_lines(adoption)]) or "nothing to apply", report, as_json)
    if dry_run and adoption.refusal(choices):
        raise typer.Exit(1)


def _renames(options: Sequence[str]) -> dict[str, str]:
    """The new ids of companies by their old ones. Raises InvalidInput."""
    renames: dict[str, str] = {}
    for option in options:
        old, equals, new = option.rpartition("=")
        if not old or not equals or old in renames:
            raise InvalidInput(f"--rename {option!r}: expected OLD=NEW, each company once")
        renames[old] = canonical_company(new)
    return renames


def _adoption_lines(adoption: AdoptionReport) -> list[str]:
    """The lines about a bot's own tables."""
    return [
        *(f"in the way: {problem}\n  {remedy}" for problem, remedy in adoption.problems),
        *(
            f"in the way: no command can name this company\n  --rename {old!r}={new}"
            for old, new in adoption.unnamable.items()
        ),
        *(f"taken off {values:,} values: {wrapping}" for wrapping, values in adoption.unwrapped.items()),
        *(f"no value that Baileys reads: {name}: {reason}" for name, reason in adoption.odd),
    ]


def sweep(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete expired keys now. Keys that a guard protects stay.

    It names the companies that lose most of their sessions. The service's own sweeps hold these back.
    """
    with database(command_settings(), without_values=True) as store, progress_bar("sweep") as progress:
        if dry_run:
            by_type = sweeper.due_now(store.census())
            losing = losing_most(store.due_sessions())
            deleted = sum(by_type.values())
            report = sweeper.SweepReport(store.database, deleted, by_type, 0.0, dry_run=True, losing_most=losing)
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


def rotate(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Seal plain values, and change the secret key.

    Bots go on meanwhile. It can be stopped at any time, and the next run does the rest. docs/sealing.md has the steps.
    """
    with database(command_settings()) as store, progress_bar("rotate") as progress:
        report = rotate_companies(store, dry_run=dry_run, progress=progress)
    show_report(terminal.rotation(report), report, as_json)


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
