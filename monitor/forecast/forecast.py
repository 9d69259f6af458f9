"""The forecast: how many keys there will be, by type, with an interval. Pure.

Arrivals are counted (`arrivals`), and lifetimes are read from the table's own past (`life_table`). Both carry today's
keys forward (`projection`, by `type_forecast`). The interval allows for three things: how much the days differed, how
few they were, and how wrong earlier forecasts turned out.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from keystore.records import LifeCount
from keystore.ttl import Policy
from monitor.forecast.arrivals import Flow, flows
from monitor.forecast.observation import Observed
from monitor.forecast.type_forecast import HORIZON_DAYS, TypeForecast, equilibrium, project_type

FEWEST_DAYS = 3
"""Days of counted arrivals and of daily snapshots that a forecast needs."""

Z_90 = 1.645
"""Half the width, in standard deviations, of an interval that nine in ten outcomes fall into."""

REPORTED_DAYS = (1, 7, 14, 30, 60, 90)

SETTLED_SHARE = 0.05
"""A projection is at its equilibrium once it stays within this share of it."""


@dataclass(frozen=True)
class Forecast:
    """The expected number of keys over all types. `days_seen` is the number of days that it was learned from.

    `path` and `sd` are the expected number and its standard deviation after 0, 1, … days.
    """

    made_at: datetime
    now: int
    days_seen: float
    equilibrium: int | None
    days_to_equilibrium: int | None
    per_type: tuple[TypeForecast, ...]
    path: tuple[float, ...] = field(repr=False)
    sd: tuple[float, ...] = field(repr=False)

    @property
    def keys_in_days(self) -> dict[str, dict[str, int]]:
        """`{days: {low, expected, high}}` for the days that reports show."""
        names = ("low", "expected", "high")
        return {str(days): dict(zip(names, self.keys_at(days), strict=True)) for days in REPORTED_DAYS}

    def keys_at(self, days: float) -> tuple[int, int, int]:
        """`(low, expected, high)` after 0 to 365 days; nine in ten outcomes should lie between low and high.

        Raises ValueError for another day.
        """
        if not 0 <= days <= HORIZON_DAYS:
            raise ValueError(f"days: {days} is not within 0 to {HORIZON_DAYS}")
        expected, sd = _between(self.path, days), _between(self.sd, days)
        return max(0, round(expected - Z_90 * sd)), round(expected), round(expected + Z_90 * sd)


def make_forecast(observed: Observed, *, what_if: Policy | None = None, widened: float = 1.0) -> Forecast | None:
    """The forecast, or None while too little was observed. `what_if` is another policy, in force from now on.

    `widened` is the factor to widen the interval by, according to the outcomes of earlier forecasts.
    """
    if observed.days < FEWEST_DAYS - 0.5:
        return None
    flow_by_type = flows(observed.counts, observed.bursts, observed.now)
    lives: dict[str, list[LifeCount]] = defaultdict(list)
    for count in observed.lives:
        lives[count.key_type].append(count)
    policy = what_if or observed.policy
    projected = [
        project_type(key_type, lives[key_type], flow_by_type.get(key_type, Flow()), observed, policy)
        for key_type in sorted(lives.keys() | flow_by_type.keys())
    ]
    if not projected:
        return None
    path = _sums(each.path for each in projected)
    # A new contact brings keys of several types at once, so deviations of arrivals add up. The rest is independent.
    of_arrivals = _sums(each.sd_of_arrivals for each in projected)
    of_rest = _sums(each.variance_of_rest for each in projected)
    settles = all(each.forecast.equilibrium is not None for each in projected)
    at_rest = equilibrium(path) if settles else None
    return Forecast(
        made_at=observed.now,
        now=round(path[0]),
        days_seen=round(observed.days, 1),
        equilibrium=None if at_rest is None else round(at_rest),
        days_to_equilibrium=None if at_rest is None else _days_until_settled(path, at_rest),
        per_type=tuple(sorted((each.forecast for each in projected), key=lambda type_: (-type_.now, type_.key_type))),
        path=tuple(path),
        sd=tuple(widened * (sd**2 + variance) ** 0.5 for sd, variance in zip(of_arrivals, of_rest, strict=True)),
    )


def _sums(of_types: Iterable[list[float]]) -> list[float]:
    """The sum over all types for each day."""
    return [sum(day) for day in zip(*of_types, strict=True)]


def _days_until_settled(path: Sequence[float], at_rest: float) -> int:
    away = [day for day, keys in enumerate(path) if abs(keys - at_rest) > max(1.0, SETTLED_SHARE * at_rest)]
    return away[-1] + 1 if away else 0


def _between(values: Sequence[float], days: float) -> float:
    """The value at a day, interpolated between whole days."""
    day = min(int(days), HORIZON_DAYS - 1)
    return values[day] + (values[day + 1] - values[day]) * (days - day)
