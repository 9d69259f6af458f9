"""The `growth` report: how fast keys come, how many there will be, and how wrong earlier forecasts were.

The diary's projection is kept as it was made: keys of the last 7 days, by the day, times a lifetime. It is wrong by
construction, and the report says so: it counts survivors as arrivals, gives one lifetime to all types, and forgets
that keys in use are renewed. (It said 427; seven weeks later there were 2,317.) Beside it stands the forecast, and how
the forecasts of earlier days came out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from keystore.records import Census
from keystore.store import Store
from keystore.ttl import Policy
from monitor.forecast.arrivals import BURSTS_FROM, COUNTED_FROM
from monitor.forecast.backtest import Outcome, record_of, widening
from monitor.forecast.forecast import FEWEST_DAYS, Forecast, Observed, days_observed, forecast
from monitor.forecast.history import Counted, lives, past_month

DIARY_LIVES_DAYS = (7, 14)
DAYS_COUNTED = 7
CAVEAT = (
    "The diary's projection counts keys that are still there as if they were all that came, gives every type one "
    "lifetime, and leaves out that keys in use are renewed: take it as what the operator believed, not as a forecast."
)


@dataclass(frozen=True)
class Projection:
    """Keys there would be if each lived so many days, and how that compares with now."""

    keys: int
    change: int
    percent: int


@dataclass(frozen=True)
class GrowthReport:
    """What came lately, the diary's projection by lifetime in days (`"7"`, `"14"`), and the forecast.

    `forecast` is None while too little was seen to make one, and `forecast_waits_for` says what is missing. `what_if`
    is the forecast under another policy, where one was asked for. `history` are the counts of the last 30 days,
    one a day, `outcomes` how earlier forecasts came out.
    """

    database: str
    total: int
    oldest_days: int
    created_24h: int
    created_7d: int
    per_day: int
    diary: Mapping[str, Projection]
    caveat: str
    forecast: Forecast | None = None
    forecast_waits_for: str | None = None
    what_if: Forecast | None = None
    history: tuple[Counted, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


def growth_report(store: Store, what_if: Policy | None = None) -> GrowthReport:
    """Counts the table, forecasts it, and compares earlier forecasts with what came. Raises what the store raises."""
    census = store.census()
    observed = observe(store, census)
    record = record_of(store, census)
    made = forecast(observed, widened=widening(record))
    return growth_of(
        census,
        store.database,
        made,
        None if made is not None else _waits_for(store, observed),
        what_if=forecast(observed, what_if=what_if, widened=widening(record)) if what_if is not None else None,
        history=past_month(store, census.taken_at),
        outcomes=record.outcomes,
    )


def observe(store: Store, census: Census) -> Observed:
    """What a forecast of this store is made from, beside the census that was just taken."""
    now = census.taken_at
    return Observed(
        now=now,
        policy=store.policy,
        guards=store.guards,
        companies=census.companies,
        lives=tuple(store.life_counts()),
        snapshots=lives(store, now - COUNTED_FROM),
        counts=tuple(store.counts(now - COUNTED_FROM)) if store.converted else (),
        bursts=tuple(store.bursts(now - BURSTS_FROM)),
    )


def growth_of(
    census: Census,
    database: str,
    made: Forecast | None = None,
    waits_for: str | None = None,
    *,
    what_if: Forecast | None = None,
    history: tuple[Counted, ...] = (),
    outcomes: tuple[Outcome, ...] = (),
) -> GrowthReport:
    """The report on a census."""
    per_day = round(census.created_7d / DAYS_COUNTED)
    oldest = census.taken_at - census.oldest_created_at if census.oldest_created_at else timedelta(0)
    return GrowthReport(
        database=database,
        total=census.total,
        oldest_days=oldest.days,
        created_24h=census.created_24h,
        created_7d=census.created_7d,
        per_day=per_day,
        diary={str(days): projection(census.total, per_day, days) for days in DIARY_LIVES_DAYS},
        caveat=CAVEAT,
        forecast=made,
        forecast_waits_for=waits_for,
        what_if=what_if,
        history=history,
        outcomes=outcomes,
    )


def projection(total: int, per_day: int, days: int) -> Projection:
    """The diary's arithmetic: so many a day, each living so many days."""
    keys = per_day * days
    change = keys - total
    return Projection(keys, change, round(100 * change / total) if total else 0)


def _waits_for(store: Store, observed: Observed) -> str:
    if not store.converted:
        return "a bot that uses this store: beside one that writes by itself, arrivals can't be counted"
    if not observed.counts:
        return "keys written through the store: none were in the last two weeks"
    if not observed.snapshots:
        return "the watch: run `python run.py`, which looks at the table every hour"
    seen = days_observed(observed)
    return f"{FEWEST_DAYS} days of counted arrivals and of the watch running; there are {seen:.1f}"
