"""The data of one company: `company delete`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from commands.opening import command_settings, database
from commands.output import AsJson, DryRun, Yes, ask, show_report
from keystore.errors import InvalidInput
from keystore.ids import canonical_company
from keystore.records import CompanySummary
from keystore.store import Store
from monitor.company_summaries import company_summaries


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
    yes: Yes = False,
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


def _summary(store: Store, company: str) -> CompanySummary:
    """Return the company's counts. Raises InvalidInput if nothing is stored for it."""
    for summary in company_summaries(store, company):
        if summary.company_id == company:
            return summary
    raise InvalidInput(f"company {company}: nothing is stored for it")
