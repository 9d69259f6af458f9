"""Moves rows written under a mis-split type to the type they belong to.

An import that split file names at the first dash wrote `lid-mapping-123.json` as type `lid`, id `mapping-123`. In the
original operator's table these were 172 rows that no bot ever read, while the bot missed them ("Invalid PreKey ID"). A
row moves with its value and times. If a newer row stands at its destination, both stay, and the old one expires.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from keystore.baileys import MIS_SPLIT_TYPES, corrected_name
from keystore.records import KeyName
from keystore.store import Store


@dataclass(frozen=True)
class Move:
    """The origin and destination of a row: names only, never its value."""

    company_id: str
    key_type: str
    key_id: str
    to_type: str
    to_id: str


@dataclass(frozen=True)
class RepairReport:
    """The rows that moved; with `dry_run`, that would. `by_type` looks like `{"lid → lid-mapping": 172}`.

    `kept` are rows that stay under their mis-split type, because a newer row stands at their destination,
    or because their bot has sealed them: under another name they wouldn't open.
    """

    database: str
    moved: int
    by_type: dict[str, int]
    moves: tuple[Move, ...]
    kept: tuple[Move, ...]
    dry_run: bool

    @property
    def keys(self) -> int:
        """The number of keys that moved, under the name that all commands share."""
        return self.moved


def repair_rows(
    store: Store, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None
) -> RepairReport:
    """Move every company's mis-split rows; with `dry_run`, only list them. A second run finds nothing to move."""
    mis_split = _mis_split(store)
    if dry_run:
        return _plan(store, mis_split)
    moved: list[Move] = []
    for done, (key, move) in enumerate(mis_split, 1):
        if store.move_key(key, move.to_type, move.to_id):
            moved.append(move)
        if progress is not None:
            progress(done, len(mis_split))
    unmoved = {move for _, move in mis_split} - set(moved)
    # A row that a bot or a sweep deleted in the meantime doesn't count as kept.
    staying = [move for _, move in _mis_split(store) if move in unmoved] if unmoved else []
    return _report(store, moved, staying, dry_run=False)


def _mis_split(store: Store) -> list[tuple[KeyName, Move]]:
    """Every mis-split row, and its move."""
    return [
        (key, Move(key.company_id, key.key_type, key.key_id, *destination))
        for key in store.key_names(MIS_SPLIT_TYPES)
        if (destination := corrected_name(key.key_type, key.key_id))
    ]


def _plan(store: Store, mis_split: list[tuple[KeyName, Move]]) -> RepairReport:
    """The result of a repair now: each move in turn, compared with the row at its destination by then."""
    destinations = {(move.company_id, move.to_type, move.to_id) for _, move in mis_split}
    newest = {
        (key.company_id, key.key_type, key.key_id): key.updated_at
        for key in store.key_names({to_type for _, to_type, _ in destinations})
        if (key.company_id, key.key_type, key.key_id) in destinations
    }
    moved, staying = [], []
    for key, move in mis_split:
        destination = (move.company_id, move.to_type, move.to_id)
        if destination in newest and newest[destination] >= key.updated_at:
            staying.append(move)
        else:
            newest[destination] = key.updated_at
            moved.append(move)
    return _report(store, moved, staying, dry_run=True)


def _report(store: Store, moved: list[Move], staying: list[Move], *, dry_run: bool) -> RepairReport:
    by_type = dict(sorted(Counter(f"{move.key_type} → {move.to_type}" for move in moved).items()))
    return RepairReport(store.database, len(moved), by_type, tuple(moved), tuple(staying), dry_run)
