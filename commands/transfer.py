"""Import and export of a company's state, or of all: `import`, `export`, `verify`."""

from pathlib import Path
from typing import Annotated

import typer

from commands.opening import command_settings, database, require_other_database
from commands.output import PARTIAL, AsJson, DryRun, UsageError, show_note, show_report
from keystore.backup.opening import archive_keys
from keystore.errors import InvalidInput
from keystore.ids import canonical_company
from keystore.store import Store
from monitor.backup.archive import Backup, BackupPart, checked_backup, is_backup
from monitor.backup.export import export_backup
from monitor.backup.manifest import Part
from monitor.backup.restore import import_backup
from monitor.backup.verify import verify_backup
from monitor.reports import backup_texts, terminal
from monitor.running.progress import progress_bar
from monitor.transfer import transfer
from monitor.transfer.archive_format import ArchiveFile
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.readers.recognition import FORMATS, source_at
from settings import Settings


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
    settings = command_settings()
    if format_name in (None, ArchiveFile.read_as) and is_backup(path):
        if partial or delete_source:
            raise InvalidInput(f"{path} has checksums, and is imported whole: without --partial and --delete-source")
        _import_backup(settings, path, company, state, replace=replace, dry_run=dry_run, as_json=as_json)
        return
    with database(settings, create=not dry_run) as store, progress_bar("import") as progress:
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


def _import_backup(
    settings: Settings,
    path: Path,
    company: str | None,
    state: str | None,
    *,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import a backup, or one company of it. All of the archive is checked before the database is opened."""
    with progress_bar("check") as progress:
        backup = checked_backup(path, archive_keys(settings.read_secret_keys()), progress)
    part = _part_of(backup, company, state)
    with database(settings, create=not dry_run) as store, progress_bar("import") as progress:
        if part is not None:
            source = BackupPart(backup, part)
            single = transfer.import_state(store, company or state, source, replace=replace, dry_run=dry_run)
            show_report(terminal.transfer(single), single, as_json)
            if single.partial:
                raise typer.Exit(PARTIAL)
            return
        report = import_backup(store, backup, replace=replace, dry_run=dry_run, progress=progress)
    show_report(backup_texts.imported(report), report, as_json)
    if report.refused:
        raise typer.Exit(PARTIAL)


def _part_of(backup: Backup, company: str | None, state: str | None) -> Part | None:
    """Return the part to import: the one named by `state`, or by `company`, or the only one; None for all."""
    if state is not None:
        return backup.part_of(canonical_company(state))
    if company is None:
        return None
    only = backup.companies[0] if len(backup.companies) == 1 else None
    return only or backup.part_of(canonical_company(company))


def export_state(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="NAME.jsonl for an archive, any other name for a folder.")
    ],
    company: Annotated[
        str | None, typer.Option(metavar="COMPANY", help="The company to export; optional if there is only one.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Export every company as of one moment, with checksums: a backup.")
    ] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Seal the archive of one company by the secret key. --all does it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export of that name.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Export a company's state, or every company's.

    An archive keeps all values and times. A folder is for useMultiFileAuthState. With --all the archive has every
    company as of one moment, with checksums. It is sealed if there is a secret key.
    """
    if every and company is not None:
        raise UsageError("--all exports every company: leave out --company")
    settings = command_settings()
    if every or sealed:
        _export_backup(settings, path, company, every=every, force=force, dry_run=dry_run, as_json=as_json)
        return
    target = ArchiveFile(path) if path.suffix == ".jsonl" else BaileysFolder(path)
    with database(settings) as store, progress_bar("export") as progress:
        report = transfer.export_state(
            store, company or _only_company(store), target, force=force, dry_run=dry_run, progress=progress
        )
        if store.sealing == "on" and not dry_run:
            show_note("the exported values are in clear; --sealed writes an archive that only the secret key opens")
    show_report(terminal.transfer(report), report, as_json)


def _export_backup(
    settings: Settings,
    path: Path,
    company: str | None,
    *,
    every: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Export every company, or one company sealed, with checksums."""
    keys = archive_keys(settings.read_secret_keys())
    if not every and keys is None:
        raise InvalidInput("--sealed: there is no secret key to seal with; set KEYSTORE_SECRET_KEYS (docs/sealing.md)")
    with database(settings) as store, progress_bar("export") as progress:
        chosen = None if every else company or _only_company(store)
        report = export_backup(store, path, keys, company=chosen, force=force, dry_run=dry_run, progress=progress)
    show_report(backup_texts.exported(report), report, as_json)
    if report.left_out:
        raise typer.Exit(PARTIAL)


def verify(
    path: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The archive of `export --all`.")],
    scratch: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="An empty database to restore into, in place of a temporary SQLite file. It stays."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try a backup.

    It checks the checksums, restores the backup into a scratch database, and compares key by key. It doesn't touch
    the database of the settings. The exit code is 0 if everything is there, otherwise 1.
    """
    settings = command_settings()
    secret_keys = settings.read_secret_keys()
    if scratch is not None:
        require_other_database(scratch, settings)
    if path.exists() and not is_backup(path):
        raise InvalidInput(f"{path} isn't an archive with checksums; `export --all` and `export --sealed` write those")
    with progress_bar("check") as progress:
        backup = checked_backup(path, archive_keys(secret_keys), progress)
    with progress_bar("verify") as progress:
        report = verify_backup(backup, secret_keys, scratch, progress)
    show_report(backup_texts.verified(report), report, as_json)
    if not report.good:
        raise typer.Exit(1)


def _only_company(store: Store) -> str:
    companies = store.companies()
    if len(companies) != 1:
        raise InvalidInput(f"{store.database} has {len(companies)} companies; name one with --company")
    return companies[0]
