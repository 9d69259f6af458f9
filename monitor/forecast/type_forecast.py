"""The forecast of one key type: its keys carried forward for a year, with the variance of each day. Pure.

At equilibrium a type holds its arrivals times their lifetime, and beside those the keys in use, which renewals keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import accumulate
from math import exp, log
from operator import add, mul
from statistics import fmean

from keystore.records import LifeCount
from keystore.ttl import Policy
from monitor.forecast.arrivals import DAY, HOUR, Flow
from monitor.forecast.history import part_of_day
from monitor.forecast.life_table import Survival, days_silent, held_share, lifetime_days, survival
from monitor.forecast.observation import Observed
from monitor.forecast.projection import PRE_KEY, Cohort, PreKeyRates, Rates, project, project_pre_keys

HORIZON_DAYS = 365
FEWEST_TO_FOLLOW = 20
"""Keys that both types must have before one is expected to change as the other does."""


@dataclass(frozen=True)
class TypeForecast:
    """The expectation for one type.

    `arrivals_per_day` trickle in, without bursts; `bursts_per_day` of `burst_keys` each come on top. `lifetime_days` is
    how long a key lives after its last use (None: never swept). At `equilibrium` (None: it keeps growing) the type
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
class ProjectedType:
    """One type carried forward: its forecast, the expected keys by day, and their variation by its source."""

    forecast: TypeForecast
    path: list[float]
    sd_of_arrivals: list[float]
    other_variance: list[float]


def project_type(
    key_type: str, lives: Sequence[LifeCount], flow: Flow, observed: Observed, policy: Policy
) -> ProjectedType:
    """Carry a type forward; `lives` are its keys now, and `policy` is in force from now on."""
    today = observed.now.date()
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
    life = lifetime_days(policy, key_type, guards=observed.guards)
    if own_days is not None and (life is None or life > own_days):
        # No key goes by the expiry of a shorter lifetime.
        cohorts = [cohort if cohort.days_left is None else replace(cohort, days_left=life) for cohort in cohorts]
    if key_type == PRE_KEY:
        return _project_pre_keys(cohorts, flow, life, observed)
    seen = survival(key_type, own_days or HORIZON_DAYS, observed.snapshots, partial(_disturbed, key_type, observed))
    held = held_share(key_type, observed.snapshots, flow.swept_per_day * flow.days, guards=observed.guards)
    bursts = flow.bursts
    from_bursts = bursts.per_day * bursts.keys + bursts.starts_per_day * bursts.start_keys
    stocks = [sum(c.keys for c in day.counts if c.key_type == key_type) for day in observed.snapshots[-14:]]
    deleted_share = min(1.0, flow.deleted_per_day / fmean(stocks)) if any(stocks) else 0.0

    def arrivals(day: int) -> float:
        return flow.arrivals_on(day) + from_bursts

    rates = Rates(life, part_of_day(observed.now), arrivals, deleted_share, seen, held)
    no_arrivals = replace(rates, arrivals=lambda _: 0.0)
    path = project(cohorts, rates, HORIZON_DAYS)
    response = project([Cohort(False, 0, None if life is None else life + 1, 1.0)], no_arrivals, HORIZON_DAYS)
    of_bursts = _variance(response, (bursts.per_day + bursts.starts_per_day) * bursts.keys**2, flow.days)
    of_trickle = [variance**0.5 for variance in _variance(response, flow.sd_per_day**2, flow.days)]
    stays = project(cohorts, no_arrivals, HORIZON_DAYS)
    # The path if uses are rarer, by as much as the few uses that were seen leave open.
    use_factor = max(0.0, 1 - 1 / (sum(seen.used) + 1) ** 0.5)
    rarer = project(cohorts, replace(rates, use_factor=use_factor), HORIZON_DAYS)
    chance = [max(0.0, left * (1 - left / stays[0])) if stays[0] else 0.0 for left in stays]
    other_variance = [chance[day] + of_bursts[day] + (path[day] - rarer[day]) ** 2 for day in range(HORIZON_DAYS + 1)]
    endless = life is None and arrivals(HORIZON_DAYS) > 0 and not deleted_share
    level = None if endless else equilibrium(path)
    once = None if life is None else arrivals(HORIZON_DAYS) * _days_lived_once(seen, life)
    forecast = _type_forecast(key_type, path, flow, life, level, once)
    return ProjectedType(forecast, path, of_trickle, other_variance)


def following(follower: ProjectedType, sessions: ProjectedType) -> ProjectedType:
    """Return the projection of a type that hangs on sessions: it changes as they do.

    A row of lid-mapping that nobody reads outlives its expiry as long as its contact's session. The type's own uses
    don't show that, and the sessions' uses do. A type with a longer life than sessions is left alone, and so are few
    keys.
    """
    own, leading = follower.forecast, sessions.forecast
    if own.lifetime_days is None or leading.lifetime_days is None or own.lifetime_days > leading.lifetime_days:
        return follower
    if min(own.now, leading.now) < FEWEST_TO_FOLLOW:
        return follower
    ratio = follower.path[0] / sessions.path[0]
    path = [ratio * keys for keys in sessions.path]
    level = None if leading.equilibrium is None else round(ratio * leading.equilibrium)
    once = None if level is None or own.from_arrivals is None else min(own.from_arrivals, level)
    forecast = replace(
        own,
        in_7_days=round(path[7]),
        in_30_days=round(path[30]),
        equilibrium=level,
        from_arrivals=once,
        kept_by_use=None if level is None or once is None else level - once,
    )
    sd_of_arrivals = [ratio * sd for sd in sessions.sd_of_arrivals]
    return ProjectedType(forecast, path, sd_of_arrivals, [ratio**2 * variance for variance in sessions.other_variance])


def _project_pre_keys(cohorts: list[Cohort], flow: Flow, life: int | None, observed: Observed) -> ProjectedType:
    bursts = flow.bursts
    companies = max(1, bursts.companies, observed.companies)
    per_company = bursts.per_day / companies
    # A company that uses up its pre-keys gets new ones, even if that was not seen yet.
    if bursts.keys and (needed := (flow.deleted_per_day - flow.per_day) / companies / bursts.keys) > 0:
        per_company = expected_rate(bursts.per_day / bursts.companies, bursts.observed_days, needed)
    arrivals = per_company * companies * bursts.keys + flow.per_day
    starts = bursts.starts_per_day * bursts.start_keys
    rates = PreKeyRates(life, companies, bursts.starts_per_day, arrivals, starts, flow.deleted_per_day, observed.guards)
    path = project_pre_keys(cohorts, rates, HORIZON_DAYS)
    one_key = Cohort(True, 0, None if life is None else life + 1, 1.0)
    undisturbed = replace(rates, arrivals=0.0, starts=0.0, consumed=0.0)
    response = project_pre_keys([one_key], undisturbed, HORIZON_DAYS)
    of_bursts = _variance(response, (per_company * companies + bursts.starts_per_day) * bursts.keys**2, flow.days)
    variance = list(map(add, of_bursts, _variance(response, flow.sd_per_day**2, flow.days)))
    once = None if life is None else (arrivals + starts) * (life + 0.5)
    forecast = _type_forecast(PRE_KEY, path, flow, life, equilibrium(path), once)
    return ProjectedType(forecast, path, [0.0] * (HORIZON_DAYS + 1), variance)


def expected_rate(seen: float, days: float, least: float) -> float:
    """The expected rate of events a day, of which `seen` a day came in so many days, if it can't be below `least`.

    With few events the true rate may be far from the one seen, and here only to one side: the mean of a Gamma
    distribution (the posterior of a Poisson rate) above the least rate, summed up in steps.
    """
    events, width = seen * days, 1 / max(days, 1.0)
    rates = [least + width * step / 8 for step in range(int(8 * (events + 12)))]
    mode = max(seen, least)
    weights = [exp(events * log(rate / mode) - (rate - mode) * days) for rate in rates]
    return float(sum(map(mul, weights, rates)) / sum(weights))


def equilibrium(path: Sequence[float]) -> float | None:
    """The level that the path has reached within the horizon; None if it still changes."""
    end, month_before = path[HORIZON_DAYS], path[HORIZON_DAYS - 30]
    return end if abs(end - month_before) <= max(1.0, 0.01 * end) else None


def _disturbed(key_type: str, observed: Observed, begin: datetime, end: datetime) -> bool:
    """True if keys of the type were cleared in this time, or a bot or the service was down for most of it."""
    cleared = [count.hour for count in observed.counts if count.event == "cleared" and count.key_type == key_type]
    middle = begin + (end - begin) / 2
    return any(begin - HOUR < hour <= end for hour in cleared) or (observed.now - middle) // DAY in observed.paused


def _type_forecast(
    key_type: str, path: Sequence[float], flow: Flow, life: int | None, level: float | None, once: float | None
) -> TypeForecast:
    lived_once = None if level is None or once is None else min(round(once), round(level))
    return TypeForecast(
        key_type=key_type,
        now=round(path[0]),
        arrivals_per_day=round(flow.per_day, 1),
        bursts_per_day=round(flow.bursts.per_day + flow.bursts.starts_per_day, 3),
        burst_keys=round(flow.bursts.keys),
        lifetime_days=life,
        in_7_days=round(path[7]),
        in_30_days=round(path[30]),
        equilibrium=None if level is None else round(level),
        from_arrivals=lived_once,
        kept_by_use=None if level is None or lived_once is None else round(level) - lived_once,
    )


def _days_lived_once(seen: Survival, life: int) -> float:
    """The days that a key stays if it is not used again after its first day, or until it is."""
    left, lived = 1.0, 0.5
    for silent in range(1, life + 1):
        lived += left
        left *= seen.share(False, silent)
    return lived


def _variance(response: Sequence[float], per_day: float, observed_days: float) -> list[float]:
    """The variance of a stock by day, if its daily arrivals vary by `per_day`; `response` is what is left of one key.

    It has two parts: the days differ, and their mean was learned from `observed_days` of them. (The number of bursts is
    taken as Poisson distributed, so its variance is the rate times the square of their keys.)
    """
    squares = [0.0, *accumulate(left * left for left in response)]
    sums = [0.0, *accumulate(response)]
    return [per_day * (squares[day] + sums[day] ** 2 / max(1.0, observed_days)) for day in range(HORIZON_DAYS + 1)]
