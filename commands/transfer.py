"""The state of one company: `import`, `export`."""

from pathlib import Path
from typing import Annotated

import typer

from commands.opening import command_settings, opened_store
from commands.options import AsJson, DryRun
from commands.output import show_report
from keystore.errors import InvalidInput
from keystore.store import Store
from monitor.reports import terminal
from monitor.running.progress import progress_bar
from monitor.transfer.archive import export_archive, import_archive
from monitor.transfer.folder import export_folder, import_folder


def import_state(
    path: Annotated[Path, typer.Argument(help="A useMultiFileAuthState folder, or an archive that `export` wrote.")],
    company: Annotated[
        str | None, typer.Option(help="The company of the state. Required for a folder; an archive names it.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Allow changes to keys that the company has. Stop the bot first.")
    ] = False,
    delete_source: Annotated[
        bool, typer.Option("--delete-source", help="Delete each file of a folder once its key is read back.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import a company's state, all of it or nothing, and read every key back. Unreadable files are listed."""
    with opened_store(command_settings()) as store, progress_bar("import") as progress:
        if path.is_dir():
            if company is None:
                raise InvalidInput(f"{path} doesn't say whose state it is; give --company")
            report = import_folder(
                store, company, path, replace=replace, dry_run=dry_run, delete_source=delete_source, progress=progress
            )
        elif delete_source:
            raise InvalidInput(f"{path}: --delete-source is for a folder; an archive is a copy to keep")
        else:
            report = import_archive(store, company, path, replace=replace, dry_run=dry_run, progress=progress)
    show_report(terminal.transfer(report), report, as_json)


def export_state(
    path: Annotated[Path, typer.Argument(help="NAME.jsonl for an archive, any other name for a folder.")],
    company: Annotated[str | None, typer.Option(help="The company; not needed if there is only one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export of that name.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write a company's state: an archive keeps all values and times, a folder is for useMultiFileAuthState."""
    write = export_archive if path.suffix == ".jsonl" else export_folder
    with opened_store(command_settings()) as store, progress_bar("export") as progress:
        report = write(store, company or _only_company(store), path, force=force, dry_run=dry_run, progress=progress)
    show_report(terminal.transfer(report), report, as_json)


def _only_company(store: Store) -> str:
    companies = store.companies()
    if len(companies) != 1:
        raise InvalidInput(f"{store.database} has {len(companies)} companies; say which with --company")
    return companies[0]
