"""The rate of new keys: counted arrivals by type, with bursts kept apart from the steady trickle. Pure.

A pairing's first sync, an import through the bot and a reconnect's pre-keys each create hundreds of keys in one moment.
They say nothing about tomorrow's rate. The store records a set that creates keys by the hundred as a burst. An hour
that brought far more keys than its neighbours counts as a burst too. A company's first burst is its beginning; later
ones recur.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from math import ceil
from statistics import mean, median, variance

from keystore.records import Burst, HourCount
from keystore.tally import EVERYBODY

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LEARNED_FROM = timedelta(days=14)
"""The period that rates are learned from: whole weeks, so that a week's rhythm cancels out. Older counts say less."""

BURSTS_FROM = timedelta(days=90)
"""The period that recurring bursts are learned from."""

SURGE_KEYS, SURGE_TIMES = 30, 10
"""An hour is a surge if it brought at least 30 keys, and 10 times the median of the hours that brought any."""

FIRST_SYNC = DAY
"""The record's first day is left out: a new account takes its contacts and groups in at once."""

COUNTED_FROM = LEARNED_FROM + FIRST_SYNC
"""The period of counts that `flows` needs."""

BUSY_KEYS = 10
"""Events a day below which a day without any is ordinary, and no pause."""

DAMPING = 0.5
"""The share of a fall that continues from one half of the observed days to the next."""

DOUBT, CERTAINTY = 2.0, 3.5
"""Standard deviations between the two halves at which a change begins to count, and at which it counts in full."""

FEWEST_TO_COMPARE = 2
"""Days that each half must have before the halves are compared."""

FEWEST_STARTS = 3
"""First bursts needed for a rate of new accounts; fewer may be old accounts, seen for the first time."""


@dataclass(frozen=True)
class RecurringBursts:
    """Bursts of one type that come again: how many a day over all companies, and of how many keys.

    `starts_per_day` counts first bursts of companies that came later than the record begins: new accounts, each
    bringing `start_keys`. `observed_days` are the days since each company's first burst, summed up.
    """

    per_day: float = 0.0
    keys: float = 0.0
    companies: int = 0
    observed_days: float = 0.0
    starts_per_day: float = 0.0
    start_keys: float = 0.0


@dataclass(frozen=True)
class Flow:
    """Arrivals and losses of one type a day, without bursts. `sd_per_day` is the standard deviation of arrivals.

    `per_day` is the present rate of arrivals. If far fewer arrived in the later half of the observed days than in the
    earlier half, `falling` is the ratio of the two, and the rate goes on falling: see `arrivals_on`. Else it is 1.
    """

    per_day: float = 0.0
    falling: float = 1.0
    sd_per_day: float = 0.0
    deleted_per_day: float = 0.0
    swept_per_day: float = 0.0
    days: float = 0.0
    bursts: RecurringBursts = RecurringBursts()

    def arrivals_on(self, day: int) -> float:
        """The arrivals expected between `day` and `day` + 1 days from now, without bursts.

        A fall continues, by half as much each time: a damped trend (Gardner and McKenzie 1985). Most falls are the end
        of a discovery: a new account meets its groups' members and old contacts once, and later only new ones.
        """
        halves = (day + 0.5 + self.days / 4) / (self.days / 2) if self.days else 0.0
        return float(self.per_day * self.falling ** (1 - DAMPING**halves))


def flows(counts: Sequence[HourCount], bursts: Sequence[Burst], now: datetime) -> dict[str, Flow]:
    """The flow of each type over the last two weeks, or since counting began."""
    if not counts:
        return {}
    began = min(count.hour for count in counts)
    since = max(began + FIRST_SYNC, now - LEARNED_FROM)
    paused = pauses(counts, since, now)
    days = (now - since) / DAY - len(paused)
    if days <= 0:
        return {}
    events_by_type: dict[str, dict[str, Counter[datetime]]] = defaultdict(lambda: defaultdict(Counter))
    for count in counts:
        if count.hour > since - HOUR:
            events_by_type[count.key_type][count.event][count.hour] += count.keys
    bursts_by_type: dict[str, list[Burst]] = defaultdict(list)
    for burst in bursts:
        bursts_by_type[burst.key_type].append(burst)
    result = {}
    for key_type, events in events_by_type.items():
        in_bursts: Counter[datetime] = Counter()
        for burst in bursts_by_type[key_type]:
            in_bursts[burst.at] += burst.keys
        trickle = Counter({hour: n - in_bursts[hour] for hour, n in events["created"].items() if n > in_bursts[hour]})
        surges = _surges(trickle, key_type)
        for surge in surges:
            del trickle[surge.at]
        by_day = _by_day(trickle, since, now, paused)
        per_day = trickle.total() / days
        level, falling = _level(per_day, by_day)
        result[key_type] = Flow(
            per_day=level,
            falling=falling,
            # At least the deviation of pure chance, and of one key in all these days.
            sd_per_day=max(variance(by_day) if len(by_day) > 1 else 0.0, per_day, 1 / days) ** 0.5,
            deleted_per_day=events["deleted"].total() / days,
            swept_per_day=events["swept"].total() / days,
            days=days,
            bursts=recurring_bursts([*bursts_by_type[key_type], *surges], began, now),
        )
    return result


def recurring_bursts(bursts: Iterable[Burst], began: datetime, now: datetime) -> RecurringBursts:
    """The rate at which these bursts recur; the record began at `began`.

    Each company is observed from its first burst on: the rate is the number of later bursts in the days since then.
    """
    by_company: dict[str, list[Burst]] = defaultdict(list)
    for burst in sorted(bursts, key=lambda burst: burst.at):
        by_company[burst.company_id].append(burst)
    if not by_company:
        return RecurringBursts()
    repeats = [burst for company in by_company.values() for burst in company[1:]]
    exposure_days = sum(max((now - company[0].at) / DAY, 0.0) for company in by_company.values())
    starts = [company[0] for name, company in by_company.items() if name != EVERYBODY and company[0].at > began + DAY]
    if len(starts) < FEWEST_STARTS:
        starts = []
    return RecurringBursts(
        per_day=len(repeats) / exposure_days * len(by_company) if exposure_days else 0.0,
        keys=mean(burst.keys for burst in (repeats or chain(*by_company.values()))),
        companies=len(by_company),
        observed_days=exposure_days,
        starts_per_day=len(starts) / max((now - began) / DAY, 1.0),
        start_keys=mean(burst.keys for burst in starts) if starts else 0.0,
    )


def pauses(counts: Sequence[HourCount], since: datetime, now: datetime) -> frozenset[int]:
    """The days without any event, in a database that is otherwise busy every day; 0 is the last 24 hours.

    On such a day a bot, or this service, was down, so the day says nothing about the others.
    """
    by_day: Counter[int] = Counter()
    for count in counts:
        if count.event in ("created", "renewed", "deleted"):
            by_day[_days_ago(count.hour, now)] += count.keys
    window = range(int((now - since) / DAY))
    busy = [by_day[ago] for ago in window if by_day[ago]]
    if not busy or mean(busy) < BUSY_KEYS:
        return frozenset()
    return frozenset(ago for ago in window if not by_day[ago])


def _level(overall: float, by_day: list[int]) -> tuple[float, float]:
    """The present arrivals a day, and the later half's share of the earlier half if arrivals are falling, else 1.

    The level is the `overall` mean. If the two halves differ by more than the days within them do, it is the mean of
    the later half. Halves are made of whole days, because each day has its own rhythm.
    """
    half = len(by_day) // 2
    later, earlier = by_day[:half], by_day[len(by_day) - half :]
    if half < FEWEST_TO_COMPARE or not any(later + earlier):
        return overall, 1.0
    spread = max(mean(later + earlier), (variance(later) + variance(earlier)) / 2)
    deviations = (sum(earlier) - sum(later)) / (2 * half * spread) ** 0.5
    trusted = min(1.0, max(0.0, (abs(deviations) - DOUBT) / (CERTAINTY - DOUBT)))
    falling = ((sum(later) + 0.5) / (sum(earlier) + 0.5)) ** trusted if deviations > 0 else 1.0
    return overall + (mean(later) - overall) * trusted, falling


def _surges(created: Counter[datetime], key_type: str) -> list[Burst]:
    """The hours that brought far more keys than usual, as bursts of no particular company."""
    least = max(SURGE_KEYS, ceil(SURGE_TIMES * median(created.values() or [0])))
    return [Burst(EVERYBODY, hour, key_type, keys) for hour, keys in created.items() if keys >= least]


def _by_day(created: Counter[datetime], since: datetime, now: datetime, paused: frozenset[int]) -> list[int]:
    """The keys of each whole day before now, latest day first, without the pauses."""
    by_day: Counter[int] = Counter()
    for hour, keys in created.items():
        by_day[_days_ago(hour, now)] += keys
    return [by_day[ago] for ago in range(int((now - since) / DAY)) if ago not in paused]


def _days_ago(hour: datetime, now: datetime) -> int:
    """The number of whole days since the middle of that hour."""
    return max(0, (now - hour - HOUR / 2) // DAY)
