"""The forecast of the number of keys, by type, with an interval.

Arrivals are counted (`arrivals`), and lifetimes are read from the table's own past (`life_table`). The projection
applies both to today's keys (`projection`, by `type_forecast`). The interval covers daily variation, a short history,
and the errors of earlier forecasts. The module does no I/O.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from keystore.records import LifeCount
from keystore.ttl import Policy
from monitor.forecast.arrivals import Flow, flows
from monitor.forecast.life_table import HELD_BY_CONTACTS
from monitor.forecast.observation import Observed
from monitor.forecast.type_forecast import HORIZON_DAYS, TypeForecast, equilibrium, following, project_type

MIN_DAYS = 3
"""Number of days with counted arrivals and with a daily snapshot that a forecast needs."""

Z_90 = 1.645
"""Half the width of an interval that nine in ten outcomes fall into, in standard deviations."""

REPORTED_DAYS = (1, 7, 14, 30, 60, 90)

EQUILIBRIUM_TOLERANCE = 0.05
"""A projection has reached its equilibrium once it stays within this share of it."""


@dataclass(frozen=True)
class Forecast:
    """The expected number of keys over all types.

    `now` is the number of keys at `made_at`. `days_seen` is the number of days that it was learned from. If
    `equilibrium` is None, the table keeps growing. `path` and `sd` are the expected number and its standard deviation
    after 0, 1, … days.
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


def make_forecast(
    observed: Observed, *, policy_override: Policy | None = None, widening_factor: float = 1.0
) -> Forecast | None:
    """Return the forecast, or None while too little was observed.

    `policy_override` is another policy, in force from now on. The interval is widened by `widening_factor`, which comes
    from the outcomes of earlier forecasts.
    """
    # Three daily snapshots may span little more than two days, so half a day less is enough.
    if observed.days < MIN_DAYS - 0.5:
        return None
    flow_by_type = flows(observed.counts, observed.bursts, observed.now)
    lives: dict[str, list[LifeCount]] = defaultdict(list)
    for count in observed.lives:
        lives[count.key_type].append(count)
    policy = policy_override or observed.policy
    by_type = {
        key_type: project_type(key_type, lives[key_type], flow_by_type.get(key_type, Flow()), observed, policy)
        for key_type in sorted(lives.keys() | flow_by_type.keys())
    }
    if not by_type:
        return None
    if observed.guards and "session" in by_type:
        for key_type in by_type.keys() & HELD_BY_CONTACTS:
            by_type[key_type] = following(by_type[key_type], by_type["session"])
    projected = list(by_type.values())
    path = _sums(each.path for each in projected)
    # A new contact brings keys of several types at once, so the types' arrival deviations are summed. Other errors are
    # independent, so their variances are.
    arrival_sds = _sums(each.sd_of_arrivals for each in projected)
    other_variances = _sums(each.other_variance for each in projected)
    each_has_equilibrium = all(each.forecast.equilibrium is not None for each in projected)
    equilibrium_keys = equilibrium(path) if each_has_equilibrium else None
    return Forecast(
        made_at=observed.now,
        now=round(path[0]),
        days_seen=round(observed.days, 1),
        equilibrium=None if equilibrium_keys is None else round(equilibrium_keys),
        days_to_equilibrium=None if equilibrium_keys is None else _days_to_equilibrium(path, equilibrium_keys),
        per_type=tuple(sorted((each.forecast for each in projected), key=lambda type_: (-type_.now, type_.key_type))),
        path=tuple(path),
        sd=tuple(
            widening_factor * (arrival_sd**2 + other_variance) ** 0.5
            for arrival_sd, other_variance in zip(arrival_sds, other_variances, strict=True)
        ),
    )


def _sums(paths: Iterable[list[float]]) -> list[float]:
    """Return the sum over all types for each day."""
    return [sum(day) for day in zip(*paths, strict=True)]


def _days_to_equilibrium(path: Sequence[float], equilibrium_keys: float) -> int:
    tolerance = max(1.0, EQUILIBRIUM_TOLERANCE * equilibrium_keys)
    days_outside = [day for day, keys in enumerate(path) if abs(keys - equilibrium_keys) > tolerance]
    return days_outside[-1] + 1 if days_outside else 0


def _between(values: Sequence[float], days: float) -> float:
    """Return the value at a day, interpolated between whole days."""
    day = min(int(days), HORIZON_DAYS - 1)
    return values[day] + (values[day + 1] - values[day]) * (days - day)
