"""Finds the format of a state that is to be imported, by looking at it."""

from pathlib import Path
from typing import TypeAlias

from keystore.errors import InvalidInput
from keystore.sqlite.auth_state_file import is_sqlite_file
from monitor.transfer.archive_format import ArchiveFile, is_archive
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.readers.baileys_sqlite import BaileysSqlite
from monitor.transfer.readers.dump_file import DumpFile
from monitor.transfer.readers.evolution import EvolutionSessions
from monitor.transfer.readers.mongo_dump import MongoDump
from monitor.transfer.readers.redis_dump import RedisDump
from monitor.transfer.readers.state_document import StateDocument
from monitor.transfer.readers.table_dump import TableDump
from monitor.transfer.readers.text_files import read_records

Source: TypeAlias = BaileysFolder | ArchiveFile | DumpFile

DUMPS: tuple[type[DumpFile], ...] = (
    BaileysSqlite,
    StateDocument,
    EvolutionSessions,
    MongoDump,
    RedisDump,
    TableDump,
)
"""The formats of dumps, in the order in which a file is held against them."""

FORMATS = {
    BaileysFolder.read_as: "useMultiFileAuthState; instances/ID of Evolution API",
    ArchiveFile.read_as: "an archive of `export`",
    **{dump.read_as: dump.describes for dump in DUMPS},
}
"""Each format's name, and what it is."""


def source_at(path: Path, format_name: str | None = None, state: str | None = None) -> Source:
    """Return the source at this path: of the format with this name, else of the one that it is recognized as.

    `state` chooses a bot's state in a dump of several. Raises InvalidInput if the format is unknown, or the path can't
    be read.
    """
    if format_name is not None and format_name not in FORMATS:
        raise InvalidInput(f"--from {format_name}: no such format; there are {', '.join(FORMATS)}")
    source = _named(path, format_name, state) if format_name else _recognized(path, state)
    if state is not None and not isinstance(source, DumpFile):
        raise InvalidInput(f"{path} holds one bot's state; --state is for a dump of several")
    return source


def _named(path: Path, format_name: str, state: str | None) -> Source:
    if format_name == BaileysFolder.read_as:
        return BaileysFolder(path)
    if format_name == ArchiveFile.read_as:
        return ArchiveFile(path)
    return next(dump for dump in DUMPS if dump.read_as == format_name)(path, state)


def _recognized(path: Path, state: str | None) -> Source:
    if path.is_dir():
        return BaileysFolder(path)
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path} is neither a folder nor a file")
    try:
        if is_archive(path):
            return ArchiveFile(path)
        records = None if is_sqlite_file(path) else read_records(path)
    except FileNotFoundError:
        raise InvalidInput(f"{path} doesn't exist; name a folder of useMultiFileAuthState, or a file") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error
    for dump in DUMPS:
        if dump.recognizes(path, records):
            return dump(path, state)
    raise InvalidInput(
        f"{path} has no format that `import` knows; --help lists them, and --from NAME says why it isn't one of them"
    )
