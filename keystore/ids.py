"""Checks of ids, values and times. Every check raises InvalidInput, which names the field and never shows a value.

The canonical id of a company is the bare one: `company_962302` and `962302` are the same account. (An operator once
had both in one table: two sets of keys for one account, and 22 duplicates to remove by hand.)
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from keystore.baileys import KEY_TYPES, MIS_SPLIT_TYPES
from keystore.errors import InvalidInput
from keystore.records import KeyRow

COMPANY_PREFIX = "company_"
MAX_NAME_CHARS = 255
MAX_VALUE_BYTES = 16 * 1024 * 1024
MAX_EPOCH = 2**63 - 1
MAX_LEASE_S = 86_400
FIRST_YEAR, LAST_YEAR, LAST_EXPIRY_YEAR = 2000, 2100, 2300
"""The years in which the times of a row lie. An expiry may be later: the longest lifetime is 100 years."""

KNOWN_TYPES = frozenset((*KEY_TYPES, *MIS_SPLIT_TYPES))
"""The key types that every count names: Baileys' own, and those that a split file name leaves behind."""

OTHER_TYPES = "other"
"""The name under which counts sum up all other types. A company chooses its types, so their number has no end."""

MAX_OTHER_TYPES = 24
"""Limit of a company's types besides the known ones. Baileys needs none of these."""


class ReservedCompany(str):
    """The id of a company that only this program itself uses: no string from outside is of this class."""


_COMPANY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def canonical_company(company_id: str) -> str:
    """Return the id without any `company_` prefix: 1-64 characters of `A-Z a-z 0-9 _ -`."""
    if isinstance(company_id, ReservedCompany):
        return str(company_id)
    if not isinstance(company_id, str):
        raise InvalidInput(f"company_id: expected a string, got {type(company_id).__name__}")
    bare = company_id
    while bare.startswith(COMPANY_PREFIX):
        bare = bare[len(COMPANY_PREFIX) :]
    if not _COMPANY.fullmatch(bare):
        raise InvalidInput(
            f"company_id: {_shown(company_id)} is not 1-64 characters of A-Z a-z 0-9 _ - "
            f"(a {COMPANY_PREFIX!r} prefix is dropped)"
        )
    return bare


def is_named(company_id: str) -> bool:
    """True if commands and the API can name this company as it is stored."""
    try:
        return canonical_company(company_id) == company_id
    except InvalidInput:
        return False


def checked_epoch(epoch: int | None) -> int | None:
    """Return `epoch`: None or a whole number of at least 1."""
    if epoch is not None and (type(epoch) is not int or not 1 <= epoch <= MAX_EPOCH):
        raise InvalidInput("epoch: no lease has such an epoch; pass the number that the lease came with")
    return epoch


def checked_seq(seq: int | None, epoch: int | None) -> int | None:
    """Return `seq`: None, or a whole number of at least 1 beside an epoch."""
    if seq is None:
        return None
    if type(seq) is not int or not 1 <= seq <= MAX_EPOCH:
        raise InvalidInput("seq: the writes under an epoch are numbered from 1 on")
    if epoch is None:
        raise InvalidInput("seq: only a write with the epoch of a lease has a number; pass both, or neither")
    return seq


def checked_acknowledged(acknowledged: int | None, seq: int | None) -> int | None:
    """Return `acknowledged`: None, or a whole number below the `seq` that is beside it."""
    if acknowledged is None:
        return None
    if type(acknowledged) is not int or acknowledged < 0 or seq is None or acknowledged >= seq:
        raise InvalidInput(
            "acknowledged: the number of an earlier write, beside the seq of this one; 0 before the first"
        )
    return acknowledged


def checked_lease_s(ttl_s: float) -> float:
    """Return `ttl_s`: more than 0 seconds, and up to a day."""
    if type(ttl_s) not in (int, float) or not math.isfinite(ttl_s) or not 0 < ttl_s <= MAX_LEASE_S:
        raise InvalidInput(f"ttl_s: a lease lasts more than 0 and up to {MAX_LEASE_S} seconds")
    return ttl_s


def checked_ids(key_ids: Iterable[str]) -> list[str]:
    """Return the ids without repetitions, in order; each has 1-255 printable characters."""
    if isinstance(key_ids, str):
        raise InvalidInput("key_ids: expected several ids, got one string; wrap it in a list")
    try:
        unique = list(dict.fromkeys(key_ids))
    except TypeError as error:
        raise InvalidInput(f"key_ids: expected strings ({error})") from None
    return [checked_name("key_id", key_id) for key_id in unique]


def checked_value(field: str, value: bytes) -> bytes:
    """Return the bytes-like value as bytes: 1 byte to 16 MiB."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise InvalidInput(f"{field}: expected bytes, got {type(value).__name__}")
    size = value.nbytes if isinstance(value, memoryview) else len(value)
    if not 1 <= size <= MAX_VALUE_BYTES:
        raise InvalidInput(f"{field}: {size} bytes; a value has 1 byte to 16 MiB")
    return bytes(value)


def checked_writes(
    keys: Mapping[str, Mapping[str, bytes | None]],
) -> tuple[list[tuple[str, str, bytes]], list[tuple[str, str]]]:
    """Return the writes and the deletions of a `set`: `([(key_type, key_id, value)], [(key_type, key_id)])`.

    Both are sorted by type and id, so that all writers lock rows in the same order.
    """
    if not isinstance(keys, Mapping):
        raise InvalidInput(f"keys: expected {{type: {{id: value}}}}, got {type(keys).__name__}")
    written: list[tuple[str, str, bytes]] = []
    deleted: list[tuple[str, str]] = []
    for key_type, by_id in keys.items():
        checked_name("key_type", key_type)
        if not isinstance(by_id, Mapping):
            raise InvalidInput(f"keys[{_shown(key_type)}]: expected {{id: value}}, got {type(by_id).__name__}")
        for key_id, value in by_id.items():
            checked_name("key_id", key_id)
            if value is None:
                deleted.append((key_type, key_id))
            else:
                if type(value) is not bytes or not 1 <= len(value) <= MAX_VALUE_BYTES:
                    value = checked_value(f"value of {_shown(key_type)} {_shown(key_id)}", value)
                written.append((key_type, key_id, value))
    written.sort(key=lambda row: row[:2])
    deleted.sort()
    return written, deleted


def checked_name(field: str, name: str) -> str:
    """Return `name`: 1-255 printable characters."""
    if not isinstance(name, str):
        raise InvalidInput(f"{field}: expected a string, got {type(name).__name__}")
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise InvalidInput(f"{field}: {len(name)} characters; it has 1 to {MAX_NAME_CHARS}")
    if not name.isprintable():
        raise InvalidInput(f"{field}: {_shown(name)} has a character that isn't printable")
    return name


def checked_time(field: str, time: datetime, last_year: int = LAST_YEAR) -> datetime:
    """Return `time`, which has a time zone and lies in the years from 2000 to `last_year`.

    Python can't read every time that a database holds, and a database not every time of Python's.
    """
    if time.tzinfo is None:
        raise InvalidInput(f"{field}: a time without a time zone; pass an aware UTC datetime")
    if not FIRST_YEAR <= time.year <= last_year:
        raise InvalidInput(f"{field}: the year {time.year} isn't in {FIRST_YEAR} to {last_year}")
    return time


def check_times(row: KeyRow) -> None:
    """Raise InvalidInput unless the times of this row can be stored and read back."""
    name = f"{_shown(row.key_type)} {_shown(row.key_id)}"
    checked_time(f"created_at of {name}", row.created_at)
    checked_time(f"updated_at of {name}", row.updated_at)
    if row.expires_at is not None:
        checked_time(f"expires_at of {name}", row.expires_at, LAST_EXPIRY_YEAR)


def times_in_range(row: KeyRow) -> KeyRow:
    """Return the row with each time that `check_times` would refuse moved to the nearest limit."""

    def moved(time: datetime, last_year: int) -> datetime:
        first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in (FIRST_YEAR, last_year))
        return min(max(time, first), last)

    expires_at = row.expires_at and moved(row.expires_at, LAST_EXPIRY_YEAR)
    created_at, updated_at = moved(row.created_at, LAST_YEAR), moved(row.updated_at, LAST_YEAR)
    return replace(row, created_at=created_at, updated_at=updated_at, expires_at=expires_at)


def _shown(name: str) -> str:
    """Return a name for an error message: escaped, and short."""
    text = ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."
