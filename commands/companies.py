"""The data of one company: `company delete`."""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from commands.opening import command_settings, database
from commands.output import AsJson, DryRun, UsageError, show_note, show_report
from keystore.errors import InvalidInput
from keystore.ids import canonical_company
from keystore.records import CompanySummary
from keystore.store import Store

PAGE = 1_000
"""Companies that are read at once to find the one."""


@dataclass(frozen=True)
class DeletionReport:
    """The keys and creds of a company that were deleted; with `dry_run`, those that would have been.

    `deleted` is also called `keys`, the name that all commands share.
    """

    database: str
    company: str
    deleted: int
    keys: int
    creds: bool
    dry_run: bool


def delete(
    company: Annotated[str, typer.Argument(metavar="COMPANY", help="The company to delete.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete a company's creds and all its keys.

    `restore` brings them back from the trash. Stop its bot first.
    """
    with database(command_settings()) as store:
        summary = _summary(store, canonical_company(company))
        creds = store.get_creds(summary.company_id) is not None
        stored = f"{'creds and ' if creds else ''}{summary.keys:,} keys of company {summary.company_id}"
        if not dry_run:
            if not yes:
                ask(f"Delete {stored} from {store.database}?")
            store.clear(summary.company_id)
        report = DeletionReport(store.database, summary.company_id, summary.keys, summary.keys, creds, dry_run)
    show_report(f"{stored} {'would be ' if dry_run else ''}deleted from {report.database}", report, as_json)


def ask(question: str) -> None:
    """Ask the operator. Ends the command unless the answer is yes. Raises UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked here; give --yes")
    if not typer.confirm(question, err=True):
        show_note("nothing was changed")
        raise typer.Exit(1)


def _summary(store: Store, company: str) -> CompanySummary:
    """Return the company's counts. Raises InvalidInput if nothing is stored for it."""
    offset = 0
    while companies := store.company_page(company, PAGE, offset).companies:
        match = next((summary for summary in companies if summary.company_id == company), None)
        if match is not None:
            return match
        offset += PAGE
    raise InvalidInput(f"company {company}: nothing is stored for it")
