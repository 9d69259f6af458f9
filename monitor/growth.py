"""The `growth` report: how fast keys come, and what an operator of 2025 concluded from it.

The diary's projection is kept as it was made: keys of the last 7 days, by the day, times a lifetime. It is wrong by
construction, and the report says so: it counts survivors as arrivals, gives one lifetime to all types, and forgets
that keys in use are renewed. (It said 427; seven weeks later there were 2,317.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from keystore.store import Census, Store

DIARY_LIVES_DAYS = (7, 14)
DAYS_COUNTED = 7

CAVEAT = (
    "The diary's projection counts keys that are still there as if they were all that came, gives every type one "
    "lifetime, and leaves out that keys in use are renewed: take it as what the operator believed, not as a forecast."
)


@dataclass(frozen=True)
class Projection:
    """Keys there would be if each lived so many days, and how that compares with now."""

    keys: int
    change: int
    percent: int


@dataclass(frozen=True)
class GrowthReport:
    """What came lately, and the diary's projection by lifetime in days (`"7"`, `"14"`).

    `forecast` is None: a forecast needs counted arrivals, which the store doesn't record yet.
    """

    database: str
    total: int
    oldest_days: int
    created_24h: int
    created_7d: int
    per_day: int
    diary: Mapping[str, Projection]
    caveat: str
    forecast: None = None


def growth_report(store: Store) -> GrowthReport:
    """Counts the table and projects it the diary's way."""
    return growth_of(store.census(), store.database)


def growth_of(census: Census, database: str) -> GrowthReport:
    """The report on a census."""
    per_day = round(census.created_7d / DAYS_COUNTED)
    oldest = census.taken_at - census.oldest_created_at if census.oldest_created_at else timedelta(0)
    return GrowthReport(
        database=database,
        total=census.total,
        oldest_days=oldest.days,
        created_24h=census.created_24h,
        created_7d=census.created_7d,
        per_day=per_day,
        diary={str(days): projection(census.total, per_day, days) for days in DIARY_LIVES_DAYS},
        caveat=CAVEAT,
    )


def projection(total: int, per_day: int, days: int) -> Projection:
    """The diary's arithmetic: so many a day, each living so many days."""
    keys = per_day * days
    change = keys - total
    return Projection(keys, change, round(100 * change / total) if total else 0)
