"""The `types` report: keys by type, with and without an expiry."""

from dataclasses import dataclass

from keystore.store import Store, TypeCount


@dataclass(frozen=True)
class TypesReport:
    """Keys by type, most first."""

    database: str
    total: int
    with_expiry: int
    without_expiry: int
    types: tuple[TypeCount, ...]


def types_report(store: Store) -> TypesReport:
    """Counts the table by type."""
    census = store.census()
    return TypesReport(
        database=store.database,
        total=census.total,
        with_expiry=census.total - census.without_expiry,
        without_expiry=census.without_expiry,
        types=tuple(sorted(census.by_type, key=lambda count: (-count.total, count.key_type))),
    )
