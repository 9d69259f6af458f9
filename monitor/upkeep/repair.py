"""Moves rows written under a mis-split type to the type they belong to.

An import that split file names at the first dash wrote `lid-mapping-123.json` as type `lid`, id `mapping-123`: 172 rows
in the operator's table that no bot ever read, while the bot missed them ("Invalid PreKey ID"). A row moves with its
value and times, unless something newer stands where it belongs; then both stay as they are, and the old one expires.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from keystore.baileys import MIS_SPLIT_TYPES, corrected_name
from keystore.records import KeyName
from keystore.store import Store


@dataclass(frozen=True)
class Move:
    """From where to where a row goes: names only, never its value."""

    company_id: str
    key_type: str
    key_id: str
    to_type: str
    to_id: str


@dataclass(frozen=True)
class RepairReport:
    """What moved, `by_type` as `{"lid → lid-mapping": 172}`; with `dry_run`, what would.

    `kept` are rows that stay under their mis-split type, since something newer stands where they belong.
    """

    database: str
    moved: int
    by_type: dict[str, int]
    moves: tuple[Move, ...]
    kept: tuple[Move, ...]
    dry_run: bool


def repair(store: Store, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> RepairReport:
    """Moves every company's mis-split rows; with `dry_run` only lists them. A second run finds nothing to move."""
    found = _mis_split(store)
    if dry_run:
        return _planned(store, found)
    moved: list[Move] = []
    for done, (key, move) in enumerate(found, 1):
        if store.move_key(key, move.to_type, move.to_id):
            moved.append(move)
        if progress is not None:
            progress(done, len(found))
    stayed = {move for _, move in found} - set(moved)
    # A row that a bot or a sweep deleted meanwhile was not kept: what is still there is.
    kept = tuple(move for _, move in _mis_split(store) if move in stayed) if stayed else ()
    return _report(store, moved, kept, dry_run=False)


def _mis_split(store: Store) -> list[tuple[KeyName, Move]]:
    """Every row that belongs elsewhere, and where."""
    found = []
    for key in store.key_names(MIS_SPLIT_TYPES):
        place = corrected_name(key.key_type, key.key_id)
        if place is not None:
            found.append((key, Move(key.company_id, key.key_type, key.key_id, *place)))
    return found


def _planned(store: Store, found: list[tuple[KeyName, Move]]) -> RepairReport:
    """What a repair would do now: each move in turn against what stands at its place by then."""
    places = {(move.company_id, move.to_type, move.to_id) for _, move in found}
    newest = {
        (key.company_id, key.key_type, key.key_id): key.updated_at
        for key in store.key_names({to_type for _, to_type, _ in places})
        if (key.company_id, key.key_type, key.key_id) in places
    }
    moved: list[Move] = []
    kept: list[Move] = []
    for key, move in found:
        place = (move.company_id, move.to_type, move.to_id)
        if place in newest and newest[place] >= key.updated_at:
            kept.append(move)
        else:
            newest[place] = key.updated_at
            moved.append(move)
    return _report(store, moved, tuple(kept), dry_run=True)


def _report(store: Store, moved: list[Move], kept: tuple[Move, ...], *, dry_run: bool) -> RepairReport:
    by_type = Counter(f"{move.key_type} → {move.to_type}" for move in moved)
    return RepairReport(store.database, len(moved), dict(sorted(by_type.items())), tuple(moved), kept, dry_run)
