"""Counts of the table by the hour, and once a day how long its keys have left to live.

Both are series in the store's history. They are thinned so that they stay small: hourly counts become daily ones after
two weeks, and nothing is older than a year.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import structlog

from keystore.records import Census, HistoryEntry, LifeCount
from keystore.store import Store
from keystore.tally import hour_of

COUNTS, LIVES = "census", "lives"
"""The names of the two series."""

SHOWN_FOR = timedelta(days=30)
"""The period that a report shows."""

TREND_POINTS, FEWEST_DAYS_SHOWN = 30, 3
"""Up to 30 counts are all shown, and so are those of less than 3 days; else the last count of each day."""

T = TypeVar("T")
log = structlog.get_logger()
HOURLY_FOR = timedelta(days=14)
COUNTS_FOR = timedelta(days=366)
LIVES_FOR = timedelta(days=60)
EVENING = timedelta(hours=18)
"""The time of a UTC day from which its lives are recorded again: see `record_counts`."""


@dataclass(frozen=True)
class TableCount:
    """The number of keys at a moment, in all and by type, and the space they took."""

    at: datetime
    total: int
    by_type: dict[str, int] = field(repr=False)
    size_bytes: int


@dataclass(frozen=True)
class Lives:
    """The whole table at a moment, by type and remaining life."""

    at: datetime
    counts: tuple[LifeCount, ...]


def record_counts(store: Store) -> Census | None:
    """Add an entry to each series, unless this hour has one. Returns the census that was taken, if any.

    A day keeps its last lives: late in the day, the keys that expire at midnight have had nearly all their uses. Until
    the evening it keeps the first.
    """
    now = store.now()
    # Entries in the future are from before the clock was set back.
    if any(entry.at <= now for entry in store.history(COUNTS, hour_of(now))):
        return None
    census = store.census()
    by_type = {count.key_type: count.total for count in census.by_type}
    document = {"total": census.total, "by_type": by_type, "size_bytes": census.size_bytes}
    store.add_history(COUNTS, now, json.dumps(document, ensure_ascii=False))
    store.thin_history(COUNTS, now - HOURLY_FOR, now - COUNTS_FOR)
    today = start_of_day(now)
    if now - today >= EVENING or all(entry.at != today for entry in store.history(LIVES, today)):
        rows = [(c.key_type, c.lasting, c.gone_on and c.gone_on.isoformat(), c.keys) for c in store.life_counts()]
        lives = {"at": now.isoformat(), "counts": rows}
        store.add_history(LIVES, today, json.dumps(lives, ensure_ascii=False, separators=(",", ":")))
        store.thin_history(LIVES, now, now - LIVES_FOR)
    return census


def counts_since(store: Store, since: datetime) -> tuple[TableCount, ...]:
    """The counts from a time on, oldest first."""
    return tuple(readable(store.history(COUNTS, since), _read_count))


def past_month(store: Store, now: datetime) -> tuple[TableCount, ...]:
    """The counts of the last 30 days, about one a day."""
    every = counts_since(store, now - SHOWN_FOR)
    if len(every) <= TREND_POINTS:
        return every
    last_of_day = {count.at.date(): count for count in every}
    return tuple(last_of_day.values()) if len(last_of_day) > FEWEST_DAYS_SHOWN else every


def lives_since(store: Store, since: datetime) -> tuple[Lives, ...]:
    """The life counts of each day, from the day of `since` on, oldest first."""
    return tuple(readable(store.history(LIVES, start_of_day(since)), _read_lives))


def readable(entries: Iterable[HistoryEntry], read: Callable[[HistoryEntry], T]) -> Iterator[T]:
    """Read the entries; those that can't be read are logged and left out, so that one doesn't fail a report."""
    for entry in entries:
        try:
            yield read(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("history_not_readable", at=entry.at.isoformat(), error=f"{type(error).__name__}: {error}")


def start_of_day(moment: datetime) -> datetime:
    """The first moment of that UTC day."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def part_of_day(moment: datetime) -> float:
    """The share of that UTC day that is over, 0 to 1."""
    return (moment - start_of_day(moment)) / timedelta(days=1)


def _read_count(entry: HistoryEntry) -> TableCount:
    document = json.loads(entry.document)
    by_type = {str(key_type): int(keys) for key_type, keys in document["by_type"].items()}
    return TableCount(entry.at, int(document["total"]), by_type, int(document["size_bytes"]))


def _read_lives(entry: HistoryEntry) -> Lives:
    document = json.loads(entry.document)
    counts = tuple(
        LifeCount(str(key_type), bool(lasting), None if gone_on is None else date.fromisoformat(gone_on), int(keys))
        for key_type, lasting, gone_on, keys in document["counts"]
    )
    return Lives(datetime.fromisoformat(document["at"]).astimezone(UTC), counts)
