"""What taking a company's state in and out has in common, whatever it is written as: its report and its rules.

An import never takes a live bot back in time: ratchets that have moved on can't be replaced by older ones without
every message after that becoming unreadable. So a company that has anything which the import would change is refused,
unless that is asked for. `monitor.transfer.folder` and `monitor.transfer.archive` are the two forms.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from keystore.errors import InvalidInput
from keystore.ids import MAX_VALUE_BYTES
from keystore.records import AuthState
from keystore.store import Store

Name: TypeAlias = tuple[str, str]
"""A key's type and id."""

Values: TypeAlias = Mapping[str, Mapping[str, bytes]]
"""`{key_type: {key_id: value}}`."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told `(done, total)` as the work goes on."""

READS_BACK_DIFFERENTLY = "reads back differently from what was written; is a bot using this company?"


@dataclass(frozen=True)
class TransferReport:
    """What went in or out; with `dry_run`, what would have.

    `keys` (and `creds`) are there and were read back and compared, `verified` of them; a dry run verifies none.
    `skipped` are (name, reason) of what was left out; `expired` keys are past their expiry already, so that the next
    sweep takes them unless a guard holds them.
    """

    company: str
    database: str
    source: str
    target: str
    keys: int
    by_type: dict[str, int]
    creds: bool
    verified: int
    expired: int
    skipped: tuple[tuple[str, str], ...]
    deleted_files: int
    dry_run: bool


def unverified(
    store: Store,
    company: str,
    names: list[Name],
    *,
    source: str,
    target: str,
    creds: bool,
    skipped: Iterable[tuple[str, str]] = (),
    expired: int = 0,
    dry_run: bool,
) -> TransferReport:
    """The report before anything is written: all that a dry run says, and what the verified one is made from."""
    return TransferReport(
        company=company,
        database=store.database,
        source=source,
        target=target,
        keys=len(names),
        by_type=counted(names),
        creds=creds,
        verified=0,
        expired=expired,
        skipped=tuple(skipped),
        deleted_files=0,
        dry_run=dry_run,
    )


@dataclass(frozen=True)
class Plan:
    """What an import is to do: write at all, and which keys of the company to delete because it replaces them."""

    writes: bool
    removed: tuple[Name, ...]


def planned(
    store: Store,
    company: str,
    values: Values,
    creds: bytes | None,
    *,
    source: Path,
    replace: bool,
    unreadable: Iterable[Name] = (),
) -> Plan:
    """What importing these values has to do. A company that holds them all already needs nothing: so that an import
    that was stopped after writing can be repeated.

    Raises InvalidInput where it would change what the company has and `replace` isn't given. Replacing removes the
    keys that the import doesn't have, but for the `unreadable` ones.
    """
    there = store.load(company)
    new = _differing(values, there.keys) or (creds is not None and creds != there.creds)
    if not new and not replace:
        return Plan(writes=False, removed=())
    changed = _differing(there.keys, values)
    has_other_creds = there.creds is not None and there.creds != creds
    if not changed and not has_other_creds:
        return Plan(writes=bool(new), removed=())
    if not replace:
        raise InvalidInput(
            f"{company} already has {held(there)} in {store.database}, and {source} differs from them in "
            f"{len(changed)} keys{' and the creds' if has_other_creds else ''}: importing it could take a running bot "
            "back to sessions that have moved on. If what the store has may go, stop the bot and repeat with --replace"
        )
    if creds is None:
        raise InvalidInput(
            f"{source} has no readable creds: keys without the creds they belong to can't replace the {held(there)} "
            f"that {company} has in {store.database}. Nothing was changed"
        )
    kept = set(unreadable)
    gone = tuple(name for name in changed if name not in kept and name[1] not in values.get(name[0], {}))
    return Plan(writes=True, removed=gone)


def held(state: AuthState) -> str:
    """`665 keys and creds`."""
    return f"{state.total} keys{' and creds' if state.creds is not None else ''}"


def counted(names: Iterable[Name]) -> dict[str, int]:
    """How many of each type, sorted by type."""
    return dict(sorted(Counter(key_type for key_type, _ in names).items()))


def read_whole(path: Path, limit_bytes: int = MAX_VALUE_BYTES) -> bytes:
    """A file's bytes. Raises InvalidInput where it is empty, over the limit or can't be read."""
    try:
        with path.open("rb") as file:
            text = file.read(limit_bytes + 1)
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
    else:
        if 0 < len(text) <= limit_bytes:
            return text
        problem = "over 16 MiB" if text else "empty"
    raise InvalidInput(problem)


def _differing(values: Values, others: Values) -> list[Name]:
    """The names in `values` whose value isn't the same in `others`."""
    return [
        (key_type, key_id)
        for key_type, by_id in values.items()
        for key_id, value in by_id.items()
        if others.get(key_type, {}).get(key_id) != value
    ]
