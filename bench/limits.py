"""Limits and targets.

Each limit is defined once, beside its measurement. It checks a measurement and formats itself for tables.
"""

from collections.abc import Sequence
from typing import Self

from msgspec import Struct

VERDICTS = {True: "met", False: "MISSED", None: "–"}
"""The verdicts as a terminal shows them; None means not measured."""


class Limit(Struct, frozen=True):
    """A number that a measurement must not exceed or, with `at_least`, must reach.

    The unit also says what the measurement is compared with, as in `× psycopg alone`.
    """

    value: float
    unit: str
    at_least: bool = False

    def allows(self, measured: float) -> bool:
        """Return true if the measurement keeps to the limit."""
        return measured >= self.value if self.at_least else measured <= self.value

    def __str__(self) -> str:
        """Return the limit as tables show it, for example `≤ 5 s`, `≥ 8 × faster` or `no time-outs`."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.value:g} {self.unit}" if self.value else f"no {self.unit}"


class Target(Struct, frozen=True):
    """One row of a table of targets; the fields are those of its JSON.

    `what` is the title of the row, and `shown` the measurement as text. `met` is None if nothing was measured. `note`
    then says why; otherwise it adds a caveat.
    """

    name: str
    what: str
    target: str
    measured: float | None
    shown: str
    met: bool | None
    note: str = ""

    @classmethod
    def judged(cls, name: str, what: str, shown: str, *checks: tuple[float, Limit], note: str = "") -> Self:
        """Return the row for one or more checks. `measured` is the first check's value."""
        limits = ", ".join(str(limit) for _, limit in checks)
        met = all(limit.allows(measured) for measured, limit in checks)
        return cls(name, what, limits, round(checks[0][0], 3), shown, met, note)

    @classmethod
    def unmeasured(cls, name: str, what: str, limit: Limit, note: str) -> Self:
        """Return the row for a target that this run did not measure."""
        return cls(name, what, str(limit), None, "–", None, note)


def missed(targets: Sequence[Target]) -> list[Target]:
    """Return the targets that were measured and not met."""
    return [target for target in targets if target.met is False]


def as_text(targets: Sequence[Target]) -> str:
    """Return the table of targets for a terminal."""
    rows = [("what", "target", "measured", "", "")] + [
        (target.what, target.target, target.shown, VERDICTS[target.met], target.note) for target in targets
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
