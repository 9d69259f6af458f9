"""Counts of the whole table, in portions that the server's limit for a statement allows.

A portion is a range of companies: the sweep's guards, which a census applies too, look at all keys of a company.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from keystore.sql.dialect import SqlDialect
from keystore.sql.link import Row, Run, StatementTimedOut

Portion = Mapping[str, str | None]
"""The companies after the id `after` up to the id `upto`; None is no limit."""

WHOLE_TABLE: Portion = {"after": None, "upto": None}

SMALLER_PORTIONS = (1.0, 0.2)
SMALLEST_PORTIONS = 0.04
"""Sizes of portions, in turn, while the server ends statements that count one; relative to the usual size."""


class CountedInPortions(SqlDialect):
    """A dialect that counts the table, all of it at a time or in portions."""

    def _in_portions(self, names: Sequence[str], params: Mapping[str, Any]) -> list[list[Row]]:
        """Run statements that count the table, and return the rows of each; a `…_totals` runs once.

        All run in one snapshot, at one time of the clock, and so count the data of one moment. Where the server limits
        the time of a statement, each counts some companies at a time, and the rows of all portions are returned. A
        statement that takes too long all the same makes all begin again, with smaller portions.
        """

        def count(run: Run, portions_of: float) -> list[list[Row]]:
            all_params = {**params, "now": self._now_param() or run(self._sql["now"], {})[0][0]}
            portions = self._portions(run, portions_of)
            return [
                [
                    row
                    for portion in (portions[:1] if name.endswith("_totals") else portions)
                    for row in run(self._sql[name], {**all_params, **portion})
                ]
                for name in names
            ]

        for portions_of in SMALLER_PORTIONS:
            with suppress(StatementTimedOut):
                return self.link.work(partial(count, portions_of=portions_of), snapshot=True)
        return self.link.work(partial(count, portions_of=SMALLEST_PORTIONS), snapshot=True)

    def _portions(self, run: Run, share: float) -> list[Portion]:
        """Return portions that together are the whole table, each of whole companies and `share` of the usual size."""
        return [WHOLE_TABLE]


def summed_by_type(rows: list[Row]) -> Iterable[tuple[str, list[int]]]:
    """Return the six counts of each type, summed over the portions of a census, sorted by type."""
    sums: dict[str, list[int]] = {}
    for key_type, *counts, _, _ in rows:
        sums[key_type] = [sum(pair) for pair in zip(sums.get(key_type, [0] * len(counts)), counts, strict=True)]
    return sorted(sums.items())
