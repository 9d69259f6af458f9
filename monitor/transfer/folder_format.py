"""The folder that Baileys' `useMultiFileAuthState` keeps: one JSON file for the creds and one for each key.

Imported keys start a new life, because files carry no times. A copy of a file is no key, unless the file itself is
missing: then it may be the only one left, and the folder isn't whole.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keystore import baileys, ids
from keystore.errors import InvalidInput
from keystore.invocation import command
from keystore.store import Store
from keystore.values.codec import is_sealed_by_bot
from monitor.transfer.collector import StateCollector, save_without_times
from monitor.transfer.export_staging import require_parent, staged, write_private
from monitor.transfer.state import CREDS, CompanyState, Name, Progress, Skipped, StateEntry, by_name, label


@dataclass(frozen=True)
class BaileysFolder:
    """A `useMultiFileAuthState` folder at `path`."""

    path: Path
    read_as = "folder"

    def read(self, progress: Progress | None) -> CompanyState:
        """Read the creds and keys. Raises InvalidInput if no file in the folder is Baileys'."""
        folder = self.path
        try:
            files = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError) as error:
            problem = "doesn't exist" if isinstance(error, FileNotFoundError) else "is no folder"
            raise InvalidInput(f"{folder} {problem}; name the folder given to useMultiFileAuthState") from None
        except OSError as error:
            raise InvalidInput(f"{folder} can't be read: {error.strerror}") from error
        if not any(map(_name_of, files)):
            raise InvalidInput(f"{folder} has no file of Baileys in it (creds.json, pre-key-1.json and so on)")
        collector = StateCollector()
        names = {file.name for file in files}
        for done, file in enumerate(files, 1):
            name, shown = _name_of(file), ascii(file.name)[1:-1]
            if name is None:
                _add_foreign(collector, shown, baileys.copied_from(file.name), names)
            else:
                try:
                    content = _read_regular(file)
                except InvalidInput as error:
                    collector.skip(shown, str(error), name)
                else:
                    collector.add(shown, name, content, content)
            if progress is not None:
                progress(done, len(files))
        return collector.state()

    def save(self, store: Store, company: str, state: CompanyState, removed: Iterable[Name]) -> None:
        """Write and delete everything in one `set`."""
        save_without_times(store, company, state, removed)

    def delete(self, entry: StateEntry) -> None:
        """Delete a source file, unless a bot has written to it since it was read."""
        file = self.path / entry.label
        if _read_whole(file) != entry.content:
            raise InvalidInput("it has changed since it was read; stop the bot that uses this folder and import again")
        try:
            file.unlink()
        except OSError as error:
            raise InvalidInput(f"{error.strerror}") from error

    def require_free(self, *, force: bool) -> None:
        """Raise InvalidInput unless the path is free, an empty folder or, with `force`, a former export."""
        target = self.path
        if not target.name:
            raise InvalidInput(f"{target}: name a new folder")
        if not os.path.lexists(target):
            require_parent(target)
            return
        if target.is_symlink() or not target.is_dir():
            raise InvalidInput(f"{target} exists and is no folder; name a new one")
        try:
            files = list(target.iterdir())
        except OSError as error:
            raise InvalidInput(f"{target} can't be read: {error.strerror}") from error
        if files and not force:
            way_out = "name a new folder, or replace it with --force"
            raise InvalidInput(f"{target} isn't empty ({len(files)} entries); {way_out}")
        foreign = [file for file in files if _name_of(file) is None or file.is_dir()]
        if foreign:
            # `force` replaces a former export, never somebody's home.
            raise InvalidInput(
                f"{target} has {len(foreign)} entries that aren't Baileys' ({foreign[0].name!a} for one); "
                "name another folder"
            )

    def collect(self, store: Store, company: str) -> CompanyState:
        """Return the state in one `load`; keys that such a folder can't hold faithfully are skipped."""
        entries: dict[Name, StateEntry] = {}
        skipped: list[Skipped] = []
        for name, value in sorted(by_name(store.load(company)).items()):
            if is_sealed_by_bot(value):
                skipped.append(
                    (label(name), "its bot has sealed it, so Baileys can't read it; export an archive instead")
                )
                continue
            try:
                entries[name] = StateEntry(_file_name(name), baileys.stored_value(value))
            except InvalidInput as error:
                skipped.append((label(name), f"{error}; export an archive instead" if name == CREDS else str(error)))
        return CompanyState(company, entries, tuple(skipped))

    def write(self, folder: Path, state: CompanyState, exported_at: datetime, progress: Progress | None) -> None:
        """Write one file for each entry."""
        for done, entry in enumerate(state.entries.values(), 1):
            write_private(folder / entry.label, entry.value)
            if progress is not None:
                progress(done, len(state.entries))

    def verify(self, folder: Path, state: CompanyState) -> None:
        """Raise InvalidInput unless every file holds its entry's value."""
        for entry in state.entries.values():
            if (folder / entry.label).read_bytes() != entry.value:
                problem = f"{entry.label} reads back differently from what was written; check the disk"
                raise InvalidInput(f"{self.path}: {problem}")

    def put_in_place(self, folder: Path, *, force: bool) -> None:
        """Rename the folder to the path. A former export is removed after that."""
        if not force or not self.path.exists():
            # Replaces an empty folder as well, and fails if another process has filled it since.
            folder.rename(self.path)
            return
        with staged(self.path) as aside:
            former = aside / "former"
            self.path.rename(former)
            try:
                folder.rename(self.path)
            except OSError:
                former.rename(self.path)
                raise


def _name_of(file: Path) -> Name | None:
    """The name of the entry in a file; None if Baileys doesn't name files so."""
    return CREDS if file.name == baileys.CREDS_FILE else baileys.key_of_file(file.name)


def _add_foreign(collector: StateCollector, shown: str, original: str | None, names: set[str]) -> None:
    """Note a file that is no key: a copy, or something else."""
    if original is None:
        collector.ignored.append((shown, "not a name that Baileys gives a file"))
    elif original in names:
        collector.ignored.append((shown, f"a copy of a file that is there ({original})"))
    else:
        reason = f"a copy of a file that isn't there; if it is the right one, rename it ({original})"
        collector.skip(shown, reason, CREDS if original == baileys.CREDS_FILE else baileys.key_of_file(original))


def _read_regular(file: Path) -> bytes:
    """Return a file's bytes. Raises InvalidInput that says what is wrong with it."""
    try:
        # Not followed: Baileys leaves no links or pipes.
        if not stat.S_ISREG(file.lstat().st_mode):
            raise InvalidInput("not a regular file")
    except OSError as error:
        raise InvalidInput(f"can't be read: {error.strerror}") from error
    return _read_whole(file)


def _read_whole(file: Path) -> bytes:
    """A file's bytes. Raises InvalidInput if it is empty, over 16 MiB or can't be read."""
    try:
        with file.open("rb") as opened:
            content = opened.read(ids.MAX_VALUE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"can't be read: {error.strerror}") from error
    if not 0 < len(content) <= ids.MAX_VALUE_BYTES:
        raise InvalidInput("over 16 MiB" if content else "empty")
    return content


def _file_name(name: Name) -> str:
    """The file name of an entry. Raises InvalidInput if it would be read back as another key, or as none."""
    if name == CREDS:
        return baileys.CREDS_FILE
    file_name = baileys.file_name(*name)
    if baileys.corrected_name(*name) is not None:
        raise InvalidInput(f"a mis-split row; run `{command('repair')}` first")
    if baileys.key_of_file(file_name) != name:
        raise InvalidInput("no file name of Baileys says this type and id; export an archive instead")
    if len(os.fsencode(file_name)) > 255:  # File systems take no longer one.
        raise InvalidInput("its file name would be too long; export an archive instead")
    return file_name
