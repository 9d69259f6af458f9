"""What the watch has seen: counts of the table by the hour, and once a day how long its keys have left to live.

Both are series in the database, thinned so that they stay small: hourly counts become daily ones after two weeks, and
nothing is older than a year.
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

COUNTED, LIVES = "census", "lives"
SHOWN_FOR = timedelta(days=30)
"""How much of the past a report shows."""

TREND_POINTS, FEWEST_DAYS_SHOWN = 30, 3
"""Of a short past every count is shown, of a longer one the last of each day."""

T = TypeVar("T")
log = structlog.get_logger()
HOURLY_FOR = timedelta(days=14)
COUNTED_FOR = timedelta(days=366)
LIVES_FOR = timedelta(days=60)
EVENING = timedelta(hours=18)


@dataclass(frozen=True)
class Counted:
    """How many keys there were at a moment, in all and by type, and what they took."""

    at: datetime
    total: int
    by_type: dict[str, int] = field(repr=False)
    size_bytes: int


@dataclass(frozen=True)
class Lives:
    """The whole table at a moment, by type and what its keys had left to live."""

    at: datetime
    counts: tuple[LifeCount, ...]


def record(store: Store) -> Census | None:
    """Adds an entry to each series unless this hour has one; the census that it took, if any.

    Of the lives a day keeps its last: late in the day the keys that expire at midnight have had nearly all their uses.
    Until the evening its first will do.
    """
    now = store.now()
    if store.history(COUNTED, hour_of(now)):
        return None
    census = store.census()
    by_type = {count.key_type: count.total for count in census.by_type}
    counted = {"total": census.total, "by_type": by_type, "size_bytes": census.size_bytes}
    store.add_history(COUNTED, now, json.dumps(counted, ensure_ascii=False))
    store.thin_history(COUNTED, now - HOURLY_FOR, now - COUNTED_FOR)
    today = start_of_day(now)
    if now - today >= EVENING or not store.history(LIVES, today):
        store.add_history(LIVES, today, _lives_document(now, store.life_counts()))
        store.thin_history(LIVES, now, now - LIVES_FOR)
    return census


def counted(store: Store, since: datetime) -> tuple[Counted, ...]:
    """The counts from a time on, oldest first."""
    return tuple(readable(store.history(COUNTED, since), _read_counted))


def past_month(store: Store, now: datetime) -> tuple[Counted, ...]:
    """The counts of the last 30 days, about one a day."""
    every = counted(store, now - SHOWN_FOR)
    if len(every) <= TREND_POINTS:
        return every
    of_day = {count.at.date(): count for count in every}  # Its last: there are hours of late, and days before.
    return tuple(of_day.values()) if len(of_day) > FEWEST_DAYS_SHOWN else every


def lives(store: Store, since: datetime) -> tuple[Lives, ...]:
    """The life counts of each day from that of `since` on, oldest first."""
    return tuple(readable(store.history(LIVES, start_of_day(since)), _read_lives))


def readable(entries: Iterable[HistoryEntry], read: Callable[[HistoryEntry], T]) -> Iterator[T]:
    """The entries, without those that aren't as we write them: a report can do without one."""
    for entry in entries:
        try:
            yield read(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("history_not_readable", at=entry.at.isoformat(), error=f"{type(error).__name__}: {error}")


def start_of_day(moment: datetime) -> datetime:
    """The first moment of that UTC day."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def part_of_day(moment: datetime) -> float:
    """How much of that UTC day is over, 0 to 1."""
    return (moment - start_of_day(moment)) / timedelta(days=1)


def _lives_document(now: datetime, counts: Iterable[LifeCount]) -> str:
    rows = [(c.key_type, c.lasting, c.gone_on and c.gone_on.isoformat(), c.keys) for c in counts]
    return json.dumps({"at": now.isoformat(), "counts": rows}, ensure_ascii=False, separators=(",", ":"))


def _read_counted(entry: HistoryEntry) -> Counted:
    document = json.loads(entry.document)
    by_type = {str(key_type): int(keys) for key_type, keys in document["by_type"].items()}
    return Counted(entry.at, int(document["total"]), by_type, int(document["size_bytes"]))


def _read_lives(entry: HistoryEntry) -> Lives:
    document = json.loads(entry.document)
    counts = tuple(
        LifeCount(str(key_type), bool(lasting), None if gone_on is None else date.fromisoformat(gone_on), int(keys))
        for key_type, lasting, gone_on, keys in document["counts"]
    )
    return Lives(datetime.fromisoformat(document["at"]).astimezone(UTC), counts)
