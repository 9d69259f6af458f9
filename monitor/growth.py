"""The `growth` report: how fast keys arrive, how many there will be, and how wrong earlier forecasts were.

The projection of the original operator's system is kept as it was: the keys of the last 7 days, per day, times a
lifetime. It is wrong by construction, and the report says so: it counts survivors as arrivals, gives one lifetime to
all types, and forgets that keys in use are renewed. (It expected 427 keys; seven weeks later there were 2,317.) Beside
it stand the forecast, and the errors of earlier forecasts. Functions that take a store raise what the store raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from keystore.invocation import command
from keystore.records import Census
from keystore.store import Store
from keystore.ttl import Policy
from monitor.forecast.backtest import Outcome, judge_saved, outcomes, widening
from monitor.forecast.forecast import MIN_DAYS, Forecast, make_forecast
from monitor.forecast.history import TableCount, past_month
from monitor.forecast.observation import Observed, observe

LEGACY_LIVES_DAYS = (7, 14)
"""The lifetimes of the original operator's projection."""

LEGACY_PERIOD_DAYS = 7
CAVEAT = (
    "The original operator's projection counts the keys that are still there as if no others had arrived, gives every "
    "type one lifetime, and leaves out that keys in use are renewed. It shows what the operator believed; it is no "
    "forecast."
)


@dataclass(frozen=True)
class Projection:
    """The number of keys if each lived equally long, and how that compares with now."""

    keys: int
    change: int
    percent: int


@dataclass(frozen=True)
class GrowthReport:
    """The latest arrivals, the legacy projection by lifetime in days (`"7"`, `"14"`), and the forecast.

    `forecast` is None while too little was observed, and `forecast_waits_for` says what is missing. `what_if` is the
    forecast under another policy, if one was asked for. `history` holds the counts of the last 30 days, one a day,
    and `outcomes` the results of earlier forecasts.
    """

    database: str
    total: int
    oldest_days: int
    created_24h: int
    created_7d: int
    per_day: int
    diary: Mapping[str, Projection]
    caveat: str = CAVEAT
    forecast: Forecast | None = None
    forecast_waits_for: str | None = None
    what_if: Forecast | None = None
    history: tuple[TableCount, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


def growth_report(store: Store, what_if: Policy | None = None) -> GrowthReport:
    """Count the table, forecast it, and compare earlier forecasts with the counts since."""
    census = store.census()
    observed = observe(store, census)
    judged = judge_saved(store, census)
    factor = widening(judged)
    forecast = make_forecast(observed, widening_factor=factor)
    return replace(
        growth_of(census, store.database),
        forecast=forecast,
        forecast_waits_for=None if forecast is not None else _waits_for(store, observed),
        what_if=None if what_if is None else make_forecast(observed, policy_override=what_if, widening_factor=factor),
        history=past_month(store, census.taken_at),
        outcomes=outcomes(judged),
    )


def growth_of(census: Census, database: str) -> GrowthReport:
    """The report on a census, without a forecast and a history."""
    per_day = round(census.created_7d / LEGACY_PERIOD_DAYS)
    oldest = census.taken_at - census.oldest_created_at if census.oldest_created_at else timedelta(0)
    return GrowthReport(
        database=database,
        total=census.total,
        oldest_days=oldest.days,
        created_24h=census.created_24h,
        created_7d=census.created_7d,
        per_day=per_day,
        diary={str(days): legacy_projection(census.total, per_day, days) for days in LEGACY_LIVES_DAYS},
    )


def legacy_projection(total: int, per_day: int, days: int) -> Projection:
    """The original operator's arithmetic: keys a day, times the days that each lives."""
    keys = per_day * days
    change = keys - total
    return Projection(keys, change, round(100 * change / total) if total else 0)


def _waits_for(store: Store, observed: Observed) -> str:
    if not store.converted:
        return "a bot that uses this store, because arrivals can't be counted while a bot writes its own tables"
    if not observed.counts:
        return "keys written through the store (none in the last two weeks)"
    if not observed.snapshots:
        return f"the watch (run `{command('serve')}`, which looks at the table every hour)"
    seen = observed.days
    return f"{MIN_DAYS} days of counted arrivals and of the watch running; there are {seen:.1f}"
