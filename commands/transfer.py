"""Import and export of a company's state: `import`, `export`."""

from pathlib import Path
from typing import Annotated

import typer

from commands.opening import command_settings, database
from commands.output import PARTIAL, AsJson, DryRun, show_report
from keystore.errors import InvalidInput
from keystore.store import Store
from monitor.reports import terminal
from monitor.running.progress import progress_bar
from monitor.transfer import transfer
from monitor.transfer.archive_format import ArchiveFile
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.readers.recognition import FORMATS, source_at


def import_state(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, an archive or a dump; see below.")],
    company: Annotated[
        str | None,
        typer.Option(metavar="COMPANY", help="The company to import into. Only an archive names its own."),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help=f"The format, if it isn't to be recognized: {', '.join(FORMATS)}."),
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="NAME", help="The bot whose state to import from a dump of several.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Allow changes to the state the company has. Stop the bot first.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Import the rest where some of it can't be read; then the exit code is 3.")
    ] = False,
    delete_source: Annotated[
        bool, typer.Option("--delete-source", help="Delete each file of a folder once it was read back and compared.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import a company's state from a folder, an archive or a dump.

    It imports everything or nothing, and reads each key back. A value must have the shape that Baileys gives its type.
    """
    with database(command_settings(), create=not dry_run) as store, progress_bar("import") as progress:
        source = source_at(path, format_name, state)
        if company is None and not isinstance(source, ArchiveFile):
            raise InvalidInput(f"{path} doesn't name its company; give --company")
        if delete_source and not isinstance(source, BaileysFolder):
            raise InvalidInput(f"{path}: --delete-source is for a folder; this is a copy to keep")
        report = transfer.import_state(
            store,
            company,
            source,
            replace=replace,
            partial=partial,
            dry_run=dry_run,
            delete_source=delete_source,
            progress=progress,
        )
    show_report(terminal.transfer(report), report, as_json)
    if report.partial:
        raise typer.Exit(PARTIAL)


def export_state(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="NAME.jsonl for an archive, any other name for a folder.")
    ],
    company: Annotated[
        str | None, typer.Option(metavar="COMPANY", help="The company to export; optional if there is only one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export of that name.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Export a company's state to a folder or an archive.

    An archive keeps all values and times. A folder is for useMultiFileAuthState.
    """
    target = ArchiveFile(path) if path.suffix == ".jsonl" else BaileysFolder(path)
    with database(command_settings()) as store, progress_bar("export") as progress:
        report = transfer.export_state(
            store, company or _only_company(store), target, force=force, dry_run=dry_run, progress=progress
        )
    show_report(terminal.transfer(report), report, as_json)


def _only_company(store: Store) -> str:
    companies = store.companies()
    if len(companies) != 1:
        raise InvalidInput(f"{store.database} has {len(companies)} companies; name one with --company")
    return companies[0]
