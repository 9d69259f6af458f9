"""The `types` report: keys by type, with and without an expiry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from keystore.records import TypeCount
from keystore.store import Store
from monitor.forecast.history import past_month


@dataclass(frozen=True)
class TypesReport:
    """Keys by type, largest type first.

    `totals_30d` are each type's totals of the last 30 days, about one a day, the first of `totals_since`.
    """

    database: str
    total: int
    with_expiry: int
    without_expiry: int
    types: tuple[TypeCount, ...]
    totals_30d: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    totals_since: datetime | None = None


def types_report(store: Store) -> TypesReport:
    """Count the table by type."""
    census = store.census()
    past = past_month(store, census.taken_at)
    return TypesReport(
        database=store.database,
        total=census.total,
        with_expiry=census.total - census.without_expiry,
        without_expiry=census.without_expiry,
        totals_30d={
            count.key_type: tuple(table.by_type.get(count.key_type, 0) for table in past) for count in census.by_type
        },
        totals_since=past[0].at if past else None,
        types=tuple(sorted(census.by_type, key=lambda count: (-count.total, count.key_type))),
    )
