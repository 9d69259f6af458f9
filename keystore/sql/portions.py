"""Counts of the whole table, in portions that the server's limit for a statement allows.

A portion is a range of companies: the sweep's guards, which a census applies too, look at all keys of a company.
"""

from collections.abc import Iterable, Mapping

from keystore.sql.link import Row

Portion = Mapping[str, str | None]
"""The companies after the id `after` up to the id `upto`; None is no limit."""

WHOLE_TABLE: Portion = {"after": None, "upto": None}

SMALLER_PORTIONS = (1.0, 0.2)
SMALLEST_PORTIONS = 0.04
"""Sizes of portions, in turn, while the server ends statements that count one; relative to the usual size."""


def summed_by_type(rows: list[Row]) -> Iterable[tuple[str, list[int]]]:
    """Return the six counts of each type, summed over the portions of a census, sorted by type."""
    sums: dict[str, list[int]] = {}
    for key_type, *counts, _, _ in rows:
        sums[key_type] = [sum(pair) for pair in zip(sums.get(key_type, [0] * len(counts)), counts, strict=True)]
    return sorted(sums.items())
