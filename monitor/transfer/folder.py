"""A company's state in and out of the folder that Baileys' `useMultiFileAuthState` keeps: one JSON file for each key.

What can't be read is listed and doesn't stop the rest; nothing counts as imported before it was read back from the
store, and no source file goes before that, or if it has changed since it was read.
"""

import dataclasses
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from keystore import baileys, ids
from keystore.errors import InvalidInput
from keystore.store import Store
from monitor.transfer.report import (
    READS_BACK_DIFFERENTLY,
    Name,
    Progress,
    TransferReport,
    counted,
    planned,
    read_whole,
    unverified,
)
from monitor.transfer.staging import settle, staged, write_private

CREDS: Name = ("", "")
"""Stands for the creds where names of keys stand."""

NAME_MAX_BYTES = 255
"""The longest file name that file systems take."""


@dataclass(frozen=True)
class _File:
    """A readable file of the folder: what it held, and the value that this is in the store."""

    path: Path
    text: bytes = field(repr=False)
    value: bytes = field(repr=False)


def import_folder(
    store: Store,
    company: str,
    folder: Path | str,
    *,
    replace: bool = False,
    dry_run: bool = False,
    delete_source: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Takes a folder's creds and keys into the store: one `set`, all of it or none; keys start a new life.

    With `delete_source` the files that are safely in the store are deleted. With `replace` the company ends with what
    the folder has. Raises InvalidInput where it isn't such a folder, or the company has a state that would change.
    """
    company, path = ids.canonical_company(company), Path(folder)
    files, skipped, unreadable = _read_folder(path, progress)
    creds = files[CREDS].value if CREDS in files else None
    values = _by_type({name: file.value for name, file in files.items() if name != CREDS})
    plan = planned(store, company, values, creds, source=path, replace=replace, unreadable=unreadable)
    names = [name for name in files if name != CREDS]
    report = unverified(
        store,
        company,
        names,
        source=str(path),
        target=store.database,
        creds=creds is not None,
        skipped=skipped,
        dry_run=dry_run,
    )
    if dry_run:
        return report
    if plan.writes:
        writes: dict[str, dict[str, bytes | None]] = {key_type: dict(by_id) for key_type, by_id in values.items()}
        for key_type, key_id in plan.removed:
            writes.setdefault(key_type, {})[key_id] = None
        store.set(company, writes, creds)
    return _verified(store, report, files, delete_source=delete_source)


def export_folder(
    store: Store,
    company: str,
    folder: Path | str,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Writes a company's creds and keys, as of one moment, as a folder for `useMultiFileAuthState`; never half of it.

    Keys that such a folder can't hold faithfully are listed and left out. Raises InvalidInput where there is nothing to
    export, or something stands at `folder`; with `force` a former folder of this kind is replaced.
    """
    company, target = ids.canonical_company(company), Path(folder)
    _require_free(target, force=force)
    state = store.load(company)
    if state.creds is None and not state.total:
        raise InvalidInput(f"{company} has neither creds nor keys in {store.database}: nothing to export")
    files: dict[str, bytes] = {}
    names: list[Name] = []
    skipped: list[tuple[str, str]] = []
    if state.creds is not None:
        try:
            files[baileys.CREDS_FILE] = baileys.stored_value(state.creds)
        except InvalidInput as error:
            skipped.append(("creds", f"{error}; export an archive instead"))
    for key_type, by_id in sorted(state.keys.items()):
        for key_id, value in sorted(by_id.items()):
            try:
                files[_faithful_name(key_type, key_id)] = baileys.stored_value(value)
                names.append((key_type, key_id))
            except InvalidInput as error:
                skipped.append((f"{key_type} {key_id}", str(error)))
    report = unverified(
        store,
        company,
        names,
        source=store.database,
        target=str(target),
        creds=baileys.CREDS_FILE in files,
        skipped=skipped,
        dry_run=dry_run,
    )
    if dry_run:
        return report
    with staged(target) as partial:
        for done, (name, content) in enumerate(files.items(), 1):
            write_private(partial / name, content)
            if progress is not None:
                progress(done, len(files))
        settle()
        for name, content in files.items():
            if (partial / name).read_bytes() != content:
                raise InvalidInput(f"{target}: {name} reads back differently from what was written; check the disk")
        _put_in_place(partial, target, force=force)
    return dataclasses.replace(report, verified=len(names))


def _read_folder(
    folder: Path, progress: Progress | None
) -> tuple[dict[Name, _File], list[tuple[str, str]], list[Name]]:
    """The readable files by key, the (name, reason) of all others, and the keys among those."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        raise InvalidInput(f"{folder} doesn't exist; name the folder that useMultiFileAuthState was given") from None
    except NotADirectoryError:
        raise InvalidInput(f"{folder} is no folder; name the folder that useMultiFileAuthState was given") from None
    except OSError as error:
        raise InvalidInput(f"{folder} can't be read: {error.strerror}") from error
    if not any(_name_of(entry) for entry in entries):
        raise InvalidInput(f"{folder} has no file of Baileys in it (creds.json, pre-key-1.json and so on)")
    files: dict[Name, _File] = {}
    skipped: list[tuple[str, str]] = []
    unreadable: list[Name] = []
    for done, entry in enumerate(entries, 1):
        name = _name_of(entry)
        try:
            if name is None:
                raise InvalidInput("not a name that Baileys gives a file")
            files[name] = _read_file(entry, name)
        except InvalidInput as error:
            skipped.append((ascii(entry.name)[1:-1], str(error)))
            if name is not None:
                unreadable.append(name)
        if progress is not None:
            progress(done, len(entries))
    return files, skipped, unreadable


def _name_of(entry: Path) -> Name | None:
    return CREDS if entry.name == baileys.CREDS_FILE else baileys.key_of_file(entry.name)


def _read_file(path: Path, name: Name) -> _File:
    """Raises InvalidInput that says what is wrong with the file, never what is in it."""
    try:
        # Not followed: a link or a pipe under such a name is nothing that Baileys left there.
        if not stat.S_ISREG(path.lstat().st_mode):
            raise InvalidInput("not a regular file")
    except OSError as error:
        raise InvalidInput(f"can't be read: {error.strerror}") from error
    if name != CREDS:
        ids.checked_writes({name[0]: {name[1]: b"-"}})
    text = read_whole(path)
    value = baileys.stored_value(text)
    if value == b"null":
        raise InvalidInput("no value in it (null)")
    if name == CREDS and (value[:1] != b"{" or value == b"{}"):
        raise InvalidInput("no credentials document in it")
    return _File(path, text, ids.checked_value(path.name, value))


def _verified(store: Store, report: TransferReport, files: dict[Name, _File], *, delete_source: bool) -> TransferReport:
    """The report after reading everything back, and after deleting what may go."""
    state = store.load(report.company)
    safe: dict[Name, _File] = {}
    skipped = list(report.skipped)
    for name, file in files.items():
        there = state.creds if name == CREDS else state.keys.get(name[0], {}).get(name[1])
        if there == file.value:
            safe[name] = file
        else:
            skipped.append((file.path.name, READS_BACK_DIFFERENTLY))
    deleted = 0
    if delete_source:
        for file in safe.values():
            try:
                _delete_unchanged(file)
                deleted += 1
            except InvalidInput as error:
                skipped.append((file.path.name, f"imported, but not deleted: {error}"))
    names = [name for name in safe if name != CREDS]
    return dataclasses.replace(
        report,
        keys=len(names),
        by_type=counted(names),
        creds=CREDS in safe,
        verified=len(names),
        skipped=tuple(skipped),
        deleted_files=deleted,
    )


def _delete_unchanged(file: _File) -> None:
    """Deletes a source file, unless a bot has written to it since."""
    if read_whole(file.path) != file.text:
        raise InvalidInput("it has changed since it was read; stop the bot that uses this folder and import again")
    try:
        file.path.unlink()
    except OSError as error:
        raise InvalidInput(f"{error.strerror}") from error


def _faithful_name(key_type: str, key_id: str) -> str:
    """The file name of a key. Raises InvalidInput where it would be read as another key, or as none."""
    name = baileys.file_name(key_type, key_id)
    if baileys.corrected_name(key_type, key_id) is not None:
        raise InvalidInput("a mis-split row; run `python run.py repair` first")
    if baileys.key_of_file(name) != (key_type, key_id):
        raise InvalidInput("no file name of Baileys says this type and id; export an archive instead")
    if len(os.fsencode(name)) > NAME_MAX_BYTES:
        raise InvalidInput("its file name would be too long; export an archive instead")
    return name


def _require_free(target: Path, *, force: bool) -> None:
    """Raises InvalidInput unless an export may stand at `target`."""
    if not target.name:
        raise InvalidInput(f"{target}: name a new folder")
    if not os.path.lexists(target):
        if not target.absolute().parent.is_dir():
            raise InvalidInput(f"{target.absolute().parent} doesn't exist; create it first")
        return
    if target.is_symlink() or not target.is_dir():
        raise InvalidInput(f"{target} exists and is no folder; name a new one")
    try:
        entries = list(target.iterdir())
    except OSError as error:
        raise InvalidInput(f"{target} can't be read: {error.strerror}") from error
    if entries and not force:
        raise InvalidInput(
            f"{target} isn't empty ({len(entries)} entries); name a new folder, or replace it with --force"
        )
    foreign = [entry for entry in entries if _name_of(entry) is None or entry.is_dir()]
    if foreign:
        # Forcing replaces a former export, never somebody's home.
        raise InvalidInput(
            f"{target} has {len(foreign)} entries that aren't Baileys' ({foreign[0].name!a} for one); "
            "name another folder"
        )


def _put_in_place(partial: Path, target: Path, *, force: bool) -> None:
    """Renames the finished folder to its target, the one that may stand there going away after that."""
    if not force or not target.exists():
        # Takes the place of an empty folder as well, and fails where one has been filled meanwhile.
        partial.rename(target)
        return
    with staged(target) as aside:
        former = aside / "former"
        target.rename(former)
        try:
            partial.rename(target)
        except OSError:
            former.rename(target)
            raise


def _by_type(values: dict[Name, bytes]) -> dict[str, dict[str, bytes]]:
    by_type: dict[str, dict[str, bytes]] = {}
    for (key_type, key_id), value in values.items():
        by_type.setdefault(key_type, {})[key_id] = value
    return by_type
