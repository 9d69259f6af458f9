"""The end of a backup: a line for each part with its place and checksum, and a last line over the whole file.

    {"format":"signal-keystore-archive","version":2,"archive":"…","exported_at":"…","program":"…","schema":"…",…}
    {"company":"962302","data_key":"…"}                        # a part: the company, its creds, its keys
    {"creds_sealed":"…"}
    {"type":"pre-key","id":"121","value_sealed":"…","created_at":"…","updated_at":"…","expires_at":"…"}
    {"tokens":1}                                               # the last part: the tokens of the API
    {"token_id":"0a1b2c3d4e5f","secret_hash":"…","company_id":"962302","created_at":"…","expires_at":"…"}
    {"part":"962302","offset":310,"length":480112,"sha256":"…","keys":665,"creds":true,"tokens":0,"value_bytes":231004}
    {"archive":"…","companies":1,"keys":665,…,"manifest_at":480652,"length":480800,"sha256":"…","seal":"…"}

The parts follow each other without a gap. The last line's `length` and `sha256` are those of everything before it, and
its `seal` is that checksum, sealed by the master key. So a change of any bit is noticed, and the parts' own checksums
say where it is.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Self, TypeVar, get_type_hints

from keystore.errors import InvalidInput
from monitor.transfer.archive_format import FORMAT
from monitor.transfer.archive_lines import document_of, line_of, time_of

VERSION = 2

Line = TypeVar("Line")


@dataclass(frozen=True)
class Header:
    """The first line. `archive` is a random id, and `master_key` the id of the key that sealed the archive.

    `schema` is the newest migration of the database that it came from.
    """

    archive: str
    exported_at: str
    program: str
    schema: str
    master_key: str | None

    def line(self) -> bytes:
        """Return the line in the file."""
        return line_of({"format": FORMAT, "version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Return the header in a line. Raises InvalidInput."""
        document = document_of(line)
        if (document.pop("format", None), document.pop("version", None)) != (FORMAT, VERSION):
            raise InvalidInput("not the first line of such an archive")
        return _read(cls, document)

    @property
    def moment(self) -> datetime:
        """The time of the export. Raises InvalidInput."""
        return time_of(asdict(self), "exported_at")


@dataclass(frozen=True)
class Part:
    """A part of the file: one company, or the tokens, whose `part` is None. `value_bytes` is the length in clear."""

    part: str | None
    offset: int
    length: int
    sha256: str
    keys: int
    creds: bool
    tokens: int
    value_bytes: int

    def line(self) -> bytes:
        """Return the line in the file."""
        return line_of(asdict(self))

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Return the part that a line describes. Raises InvalidInput."""
        return _read(cls, document_of(line))

    @property
    def name(self) -> str:
        """The name in messages."""
        return "the tokens" if self.part is None else f"company {self.part}"


@dataclass(frozen=True)
class End:
    """The last line: totals, the place of the parts' lines, and the length and the checksum of everything before."""

    archive: str
    companies: int
    keys: int
    tokens: int
    value_bytes: int
    manifest_at: int
    length: int
    sha256: str
    seal: str | None

    def line(self) -> bytes:
        """Return the line in the file."""
        return line_of(asdict(self))

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Return the end that a line describes. Raises InvalidInput."""
        return _read(cls, document_of(line))


def totals(parts: Iterable[Part]) -> dict[str, int]:
    """Return the sums over the parts, as the last line has them."""
    parts = list(parts)
    return {
        "companies": sum(part.part is not None for part in parts),
        **{name: sum(getattr(part, name) for part in parts) for name in ("keys", "tokens", "value_bytes")},
    }


def _read(kind: type[Line], document: dict[str, Any]) -> Line:
    """Return a record of a JSON object that has exactly its fields, of their types. Raises InvalidInput."""
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if list(document) != names:
        raise InvalidInput(f"not a line with {', '.join(names)}")
    for name in names:
        value = document[name]
        is_bool = isinstance(value, bool)
        is_odd = (isinstance(value, str) and not value.isprintable()) or (type(value) is int and value < 0)
        if not isinstance(value, types[name]) or is_bool != (types[name] is bool) or is_odd:
            raise InvalidInput(f"{name}: not a value of this field")
    return kind(**document)
