"""The forecast: how many keys there will be, by type, with an interval, from counted arrivals and a life table. Pure.

What comes is counted (`arrivals`), how long it stays is read off the table's own past (`life_table`), and both carry
today's keys forward (`projection`). At equilibrium a type holds its arrivals times their lifetime, and beside those
the keys in use, which renewals keep; both are given. The interval comes from how much the days differed, from how few
they were, and from how wrong earlier forecasts turned out.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from itertools import accumulate

from keystore.records import Burst, HourCount, LifeCount
from keystore.ttl import Policy
from monitor.forecast.arrivals import DAY, HOUR, NO_BURSTS, Flow, flows, pauses
from monitor.forecast.history import Lives, part_of_day
from monitor.forecast.life_table import DAY_S, Survival, days_silent, held_share, lifetime_days, survival
from monitor.forecast.projection import PRE_KEY, Cohort, PreKeyStepping, Stepping, project, project_pre_keys

HORIZON_DAYS = 365
FEWEST_DAYS = 3
"""So many days must have been counted and looked at before anything is said of the days to come."""

Z_90 = 1.645
"""Half the width, in standard deviations, of an interval that nine in ten outcomes fall into."""

REPORTED_DAYS = (1, 7, 14, 30, 60, 90)

SETTLED_SHARE = 0.05
"""A projection has come to its equilibrium once it stays within this share of it."""

NOTHING = Flow(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, NO_BURSTS)


@dataclass(frozen=True)
class Observed:
    """What a forecast is made from: the table now, its daily snapshots, and what was counted."""

    now: datetime
    policy: Policy
    guards: bool
    companies: int
    lives: tuple[LifeCount, ...]
    snapshots: tuple[Lives, ...]
    counts: tuple[HourCount, ...]
    bursts: tuple[Burst, ...]

    @cached_property
    def paused(self) -> frozenset[int]:
        """How many days ago nothing happened at all, where usually a lot does."""
        return pauses(self.counts, min((count.hour for count in self.counts), default=self.now), self.now)


@dataclass(frozen=True)
class TypeForecast:
    """What is expected of one type.

    `arrivals_per_day` trickle in, bursts apart; `bursts_per_day` of `burst_keys` each come on top. `lifetime_days` is
    how long one lives after its last use (None: never swept). At `equilibrium` (None: it goes on growing) the type
    holds `from_arrivals`, which live once, and `kept_by_use`.
    """

    key_type: str
    now: int
    arrivals_per_day: float
    bursts_per_day: float
    burst_keys: float
    lifetime_days: int | None
    in_7_days: int
    in_30_days: int
    equilibrium: int | None
    from_arrivals: int | None
    kept_by_use: int | None


@dataclass(frozen=True)
class Forecast:
    """How many keys are expected, over all types. `days_seen` is what it was learned from.

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
        """`{days: {low, expected, high}}` for the days that reports speak of."""
        return {
            str(days): dict(zip(("low", "expected", "high"), self.keys_at(days), strict=True)) for days in REPORTED_DAYS
        }

    def keys_at(self, days: float) -> tuple[int, int, int]:
        """`(low, expected, high)` after so many days, 0 to 365; nine in ten outcomes are to lie between low and high.

        Raises ValueError for another day.
        """
        if not 0 <= days <= HORIZON_DAYS:
            raise ValueError(f"days: {days} is not within 0 to {HORIZON_DAYS}")
        expected, sd = _between(self.path, days), _between(self.sd, days)
        return max(0, round(expected - Z_90 * sd)), round(expected), round(expected + Z_90 * sd)


@dataclass(frozen=True)
class _Projected:
    """One type, carried forward: expected keys by day, and the standard deviations by where they come from."""

    told: TypeForecast
    path: list[float]
    sd_of_arrivals: list[float]
    variance_of_rest: list[float]


def days_observed(observed: Observed) -> float:
    """For how many days arrivals were counted and the table looked at."""
    if not observed.counts or not observed.snapshots:
        return 0.0
    counted_days = (observed.now - min(count.hour for count in observed.counts)).total_seconds() / DAY_S
    return max(0.0, min(counted_days, len(observed.snapshots)))


def forecast(observed: Observed, *, what_if: Policy | None = None, widened: float = 1.0) -> Forecast | None:
    """The forecast, None while too little was seen. `what_if` is another policy, in force from now on.

    `widened` is how much wider than estimated the interval has to be, by how earlier forecasts came out.
    """
    days_seen = days_observed(observed)
    if days_seen < FEWEST_DAYS - 0.5:
        return None
    of_type = flows(observed.counts, observed.bursts, observed.now)
    lives: dict[str, list[LifeCount]] = defaultdict(list)
    for count in observed.lives:
        lives[count.key_type].append(count)
    projected = [
        _projected(key_type, lives[key_type], of_type.get(key_type, NOTHING), observed, what_if or observed.policy)
        for key_type in sorted(lives.keys() | of_type.keys())
    ]
    if not projected:
        return None
    path = [sum(day) for day in zip(*(one.path for one in projected), strict=True)]
    # A new contact brings keys of several types at once: what differs in arrivals adds up, the rest is each type's own.
    sd = [
        widened * (sum(arrivals) ** 2 + sum(rest)) ** 0.5
        for arrivals, rest in zip(
            zip(*(one.sd_of_arrivals for one in projected), strict=True),
            zip(*(one.variance_of_rest for one in projected), strict=True),
            strict=True,
        )
    ]
    rests = all(one.told.equilibrium is not None for one in projected)
    equilibrium = _equilibrium(path) if rests else None
    return Forecast(
        made_at=observed.now,
        now=round(path[0]),
        days_seen=round(days_seen, 1),
        equilibrium=None if equilibrium is None else round(equilibrium),
        days_to_equilibrium=None if equilibrium is None else _settled(path, equilibrium),
        per_type=tuple(sorted((one.told for one in projected), key=lambda told: (-told.now, told.key_type))),
        path=tuple(path),
        sd=tuple(sd),
    )


def _projected(key_type: str, lives: Sequence[LifeCount], flow: Flow, observed: Observed, policy: Policy) -> _Projected:
    now, today = observed.now, observed.now.date()
    own_days = lifetime_days(observed.policy, key_type, guards=False)
    cohorts = [
        Cohort(
            count.lasting,
            0 if own_days is None else days_silent(count, today, own_days) or 0,
            None if count.gone_on is None else (count.gone_on - today).days,
            float(count.keys),
        )
        for count in lives
    ]
    over = part_of_day(now)
    life = lifetime_days(policy, key_type, guards=observed.guards)
    if key_type == PRE_KEY:
        return _projected_pre_keys(cohorts, flow, life, observed)
    seen = survival(key_type, own_days or HORIZON_DAYS, observed.snapshots, partial(_disturbed, key_type, observed))
    held = held_share(key_type, observed.snapshots, flow.swept_per_day * flow.days, guards=observed.guards)
    bursts = flow.bursts
    from_bursts = bursts.per_day * bursts.keys + bursts.starts_per_day * bursts.start_keys
    stock_seen = _mean_stock(key_type, observed.snapshots)
    deleted_share = min(1.0, flow.deleted_per_day / stock_seen) if stock_seen else 0.0

    def stepping(arrivals: Callable[[int], float], use_factor: float = 1.0) -> Stepping:
        return Stepping(life, over, arrivals, deleted_share, seen, held, use_factor)

    def arrivals(day: int) -> float:
        return flow.arrivals_on(day) + from_bursts

    def nothing(_: int) -> float:
        return 0.0

    path = project(cohorts, stepping(arrivals), HORIZON_DAYS)
    response = project([Cohort(False, 0, None if life is None else life + 1, 1.0)], stepping(nothing), HORIZON_DAYS)
    of_bursts = _variance(response, (bursts.per_day + bursts.starts_per_day) * bursts.keys**2, flow.days)
    trickled = [variance**0.5 for variance in _variance(response, flow.sd_per_day**2, flow.days)]
    stays = project(cohorts, stepping(nothing), HORIZON_DAYS)
    # By how much the path moves when uses are as much rarer as the few that were seen leave open.
    rarer = project(cohorts, stepping(arrivals, max(0.0, 1 - 1 / (sum(seen.used) + 1) ** 0.5)), HORIZON_DAYS)
    rest = [
        _binomial(stays[day], stays[0]) + of_bursts[day] + (path[day] - rarer[day]) ** 2
        for day in range(HORIZON_DAYS + 1)
    ]
    endless = life is None and arrivals(HORIZON_DAYS) > 0 and not deleted_share
    equilibrium = None if endless else _equilibrium(path)
    once = None if life is None else arrivals(HORIZON_DAYS) * _days_lived_once(seen, life)
    told = _told(key_type, path, flow, life, equilibrium, once)
    return _Projected(told, path, trickled, rest)


def _projected_pre_keys(cohorts: list[Cohort], flow: Flow, life: int | None, observed: Observed) -> _Projected:
    bursts = flow.bursts
    companies = max(1, bursts.companies, observed.companies)
    per_company = bursts.per_day / companies
    # A company that uses its pre-keys up gets new ones, whether that was seen yet or not.
    if bursts.keys:
        per_company = max(per_company, (flow.deleted_per_day - flow.per_day) / companies / bursts.keys)
    arrivals = per_company * companies * bursts.keys + flow.per_day
    starts = bursts.starts_per_day * bursts.start_keys
    # One that comes because the last were used up supersedes nothing.
    refills = min(per_company, flow.deleted_per_day / companies / bursts.keys) if bursts.keys else 0.0
    groups = per_company - refills + min(1.0, flow.per_day / companies)

    def stepping(superseded: float, arrivals: float, starts: float, consumed: float) -> PreKeyStepping:
        return PreKeyStepping(life, superseded, arrivals, starts, consumed, observed.guards)

    path = project_pre_keys(cohorts, stepping(groups, arrivals, starts, flow.deleted_per_day), HORIZON_DAYS)
    response = project_pre_keys(
        [Cohort(True, 0, None if life is None else life + 1, 1.0)], stepping(groups, 0.0, 0.0, 0.0), HORIZON_DAYS
    )
    variance = _variance(response, (per_company * companies + bursts.starts_per_day) * bursts.keys**2, flow.days)
    equilibrium = _equilibrium(path)
    once = None if life is None else (arrivals + starts) * (life + 0.5)
    trickled = _variance(response, flow.sd_per_day**2, flow.days)
    variance = [burst + trickle for burst, trickle in zip(variance, trickled, strict=True)]
    told = _told(PRE_KEY, path, flow, life, equilibrium, once)
    return _Projected(told, path, [0.0] * (HORIZON_DAYS + 1), variance)


def _disturbed(key_type: str, observed: Observed, begin: datetime, end: datetime) -> bool:
    """Whether keys of the type were cleared in this time, or a bot or the service was down for most of it."""
    if any(
        count.event == "cleared" and count.key_type == key_type and begin - HOUR < count.hour <= end
        for count in observed.counts
    ):
        return True
    middle = begin + (end - begin) / 2
    return (observed.now - middle) // DAY in observed.paused


def _told(
    key_type: str, path: Sequence[float], flow: Flow, life: int | None, equilibrium: float | None, once: float | None
) -> TypeForecast:
    lived_once = None if equilibrium is None or once is None else min(round(once), round(equilibrium))
    return TypeForecast(
        key_type=key_type,
        now=round(path[0]),
        arrivals_per_day=round(flow.per_day, 1),
        bursts_per_day=round(flow.bursts.per_day + flow.bursts.starts_per_day, 3),
        burst_keys=round(flow.bursts.keys),
        lifetime_days=life,
        in_7_days=round(path[7]),
        in_30_days=round(path[30]),
        equilibrium=None if equilibrium is None else round(equilibrium),
        from_arrivals=lived_once,
        kept_by_use=None if equilibrium is None or lived_once is None else round(equilibrium) - lived_once,
    )


def _mean_stock(key_type: str, snapshots: Sequence[Lives]) -> float:
    stocks = [sum(c.keys for c in lives.counts if c.key_type == key_type) for lives in snapshots[-14:]]
    return sum(stocks) / len(stocks) if stocks else 0.0


def _days_lived_once(seen: Survival, life: int) -> float:
    """How many days a key is there that is never used again after its first day, or until it is."""
    left, lived = 1.0, 0.5
    for silent in range(1, life + 1):
        lived += left
        left *= seen.share(False, silent)
    return lived


def _variance(response: Sequence[float], per_day: float, seen_days: float) -> list[float]:
    """The variance of a stock, by day, whose arrivals have the variance `per_day`; of one, `response[k]` is left then.

    Both parts count: that days differ, and that their mean was learned from `seen_days` of them. (The number of bursts
    is taken for Poisson's, so theirs is their rate times the square of their keys.)
    """
    squares = [0.0, *accumulate(left * left for left in response)]
    sums = [0.0, *accumulate(response)]
    return [per_day * (squares[day] + sums[day] ** 2 / max(1.0, seen_days)) for day in range(HORIZON_DAYS + 1)]


def _binomial(left: float, of: float) -> float:
    return max(0.0, left * (1 - left / of)) if of else 0.0


def _equilibrium(path: Sequence[float]) -> float | None:
    """Where the path has come to rest within the horizon; None while it is still going somewhere."""
    end, month_before = path[HORIZON_DAYS], path[HORIZON_DAYS - 30]
    return end if abs(end - month_before) <= max(1.0, 0.01 * end) else None


def _settled(path: Sequence[float], equilibrium: float) -> int:
    away = [day for day, keys in enumerate(path) if abs(keys - equilibrium) > max(1.0, SETTLED_SHARE * equilibrium)]
    return away[-1] + 1 if away else 0


def _between(values: Sequence[float], days: float) -> float:
    day = min(int(days), HORIZON_DAYS - 1)
    return values[day] + (values[day + 1] - values[day]) * (days - day)
