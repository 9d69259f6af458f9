"""How fast keys come: counted arrivals by type, with what came at once told apart from what trickles in. Pure.

A pairing's first sync, an import through the bot, a reconnect's pre-keys: hundreds of keys in one moment say nothing
about tomorrow's rate. Sets that created keys by the hundred are recorded as bursts by the store; an hour that brought
far more than such hours do is taken for one too. The first burst of a company is how it began. Those after it recur.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from statistics import mean, median, variance

from keystore.records import Burst, HourCount
from keystore.tally import EVERYBODY

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HALF_AN_HOUR = timedelta(minutes=30)
LEARNED_FROM = timedelta(days=14)
"""Two whole weeks: a week's rhythm cancels out, and what is older says less about what comes."""

BURSTS_FROM = timedelta(days=90)
SURGE_KEYS, SURGE_TIMES = 30, 10
"""An hour is a surge with at least so many keys, and so many times the median of the hours that brought any."""

FIRST_SYNC = DAY
"""The record's first day isn't learned from: an account that begins takes its contacts and groups in at once."""

COUNTED_FROM = LEARNED_FROM + FIRST_SYNC
"""What `flows` is to be given."""

BUSY_KEYS = 10
"""A database to whose keys less happens in a day has days without anything, and they are none out of the ordinary."""

DAMPING = 0.5
"""How much of a fall goes on from one half of the days looked at to the next."""

DOUBT, CERTAINTY = 2.0, 3.5
"""A change between the halves of so many standard deviations begins to count, and counts in full."""

FEWEST_TO_COMPARE = 2
"""Days in each half, before the halves are compared."""

FEWEST_STARTS = 3
"""So many companies' first bursts make a rate of new accounts; fewer may be old ones, seen for the first time."""


@dataclass(frozen=True)
class Recurring:
    """Bursts of a type that come again: how many a day over all companies, and of how many keys.

    `repeats` have been seen, over `exposure_days` of companies' days since each one's first burst. `starts_per_day` are
    first bursts of companies that came later than the record begins: new accounts, each bringing `start_keys`.
    """

    per_day: float
    keys: float
    repeats: int
    exposure_days: float
    companies: int
    starts_per_day: float
    start_keys: float


@dataclass(frozen=True)
class Flow:
    """What came and went of one type, a day, bursts apart. `sd_per_day` is the standard deviation of a day's arrivals.

    `per_day` is what comes now. Where far fewer came in the later half of the days looked at than in the earlier one,
    `falling` is the one's share of the other, and fewer are yet to come: see `arrivals_on`.
    """

    per_day: float
    falling: float
    sd_per_day: float
    deleted_per_day: float
    renewed_per_day: float
    swept_per_day: float
    days: float
    bursts: Recurring

    def arrivals_on(self, day: int) -> float:
        """How many will come between `day` and `day` + 1 days from now, bursts apart.

        A fall goes on, by half as much each time: a damped trend (Gardner and McKenzie 1985). What falls is mostly
        discovery: a new account meets its groups' members and old contacts once, and later only new ones.
        """
        halves = (day + 0.5 + self.days / 4) / (self.days / 2) if self.days else 0.0
        return float(self.per_day * self.falling ** (1 - DAMPING**halves))


NO_BURSTS = Recurring(0.0, 0.0, 0, 0.0, 0, 0.0, 0.0)


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
    happened: dict[str, dict[str, Counter[datetime]]] = defaultdict(lambda: defaultdict(Counter))
    for count in counts:
        if count.hour > since - timedelta(hours=1):
            happened[count.key_type][count.event][count.hour] += count.keys
    of_type: dict[str, list[Burst]] = defaultdict(list)
    for burst in bursts:
        of_type[burst.key_type].append(burst)
    found = {}
    for key_type, events in happened.items():
        created = events["created"]
        recorded: Counter[datetime] = Counter()
        for burst in of_type[key_type]:
            recorded[burst.at] += burst.keys
        trickle = Counter({hour: keys - recorded[hour] for hour, keys in created.items() if keys > recorded[hour]})
        surges = _surges(trickle, key_type)
        for surge in surges:
            del trickle[surge.at]
        by_day = _by_day(trickle, since, now, paused)
        per_day = sum(trickle.values()) / days
        level, falling = _level(trickle, by_day, days)
        found[key_type] = Flow(
            per_day=level,
            falling=falling,
            # Never less than chance would do, nor than one key in all these days.
            sd_per_day=max(variance(by_day) if len(by_day) > 1 else 0.0, per_day, 1 / days) ** 0.5,
            deleted_per_day=sum(events["deleted"].values()) / days,
            renewed_per_day=sum(events["renewed"].values()) / days,
            swept_per_day=sum(events["swept"].values()) / days,
            days=days,
            bursts=recurring([*of_type[key_type], *surges], began, now),
        )
    return found


def recurring(bursts: Iterable[Burst], began: datetime, now: datetime) -> Recurring:
    """What of these bursts will come again, `began` being when the record began.

    Counted from each company's first burst on, since that is where its record begins: so many more in so many days.
    """
    by_company: dict[str, list[Burst]] = defaultdict(list)
    for burst in sorted(bursts, key=lambda burst: burst.at):
        by_company[burst.company_id].append(burst)
    if not by_company:
        return NO_BURSTS
    repeats = [burst for company in by_company.values() for burst in company[1:]]
    exposure_days = sum(max((now - company[0].at) / DAY, 0.0) for company in by_company.values())
    starts = [company[0] for name, company in by_company.items() if name != EVERYBODY and company[0].at > began + DAY]
    if len(starts) < FEWEST_STARTS:
        starts = []
    days = max((now - began) / DAY, 1.0)
    per_company = len(repeats) / exposure_days if exposure_days else 0.0
    every = [burst for company in by_company.values() for burst in company]
    return Recurring(
        per_day=per_company * len(by_company),
        keys=mean(burst.keys for burst in (repeats or every)),
        repeats=len(repeats),
        exposure_days=exposure_days,
        companies=len(by_company),
        starts_per_day=len(starts) / days,
        start_keys=mean(burst.keys for burst in starts) if starts else 0.0,
    )


def pauses(counts: Sequence[HourCount], since: datetime, now: datetime) -> frozenset[int]:
    """How many days ago nothing at all happened (0: within 24 hours), where otherwise a lot does every day.

    On such a day a bot, or this service, was down: it says nothing of the others.
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


def _level(created: Counter[datetime], by_day: list[int], days: float) -> tuple[float, float]:
    """How many come a day now, and the later half's share of the earlier where they are falling, else 1.

    The mean of all days, unless the halves (of whole days: each has its own rhythm) differ by more than the days within
    them do: then that of the later half.
    """
    half, overall = len(by_day) // 2, sum(created.values()) / days
    later, earlier = by_day[:half], by_day[len(by_day) - half :]
    if half < FEWEST_TO_COMPARE or not any(later + earlier):
        return overall, 1.0
    spread = max(mean(later + earlier), (variance(later) + variance(earlier)) / 2)
    deviations = (sum(earlier) - sum(later)) / (2 * half * spread) ** 0.5
    trusted = min(1.0, max(0.0, (abs(deviations) - DOUBT) / (CERTAINTY - DOUBT)))
    falling = ((sum(later) + 0.5) / (sum(earlier) + 0.5)) ** trusted if deviations > 0 else 1.0
    return overall + (mean(later) - overall) * trusted, falling


def _surges(created: Counter[datetime], key_type: str) -> list[Burst]:
    """The hours in which far more came than usually do; of no company in particular."""
    usual = median(created.values()) if created else 0.0
    least = max(SURGE_KEYS, ceil(SURGE_TIMES * usual))
    return [Burst(EVERYBODY, hour, key_type, keys) for hour, keys in created.items() if keys >= least]


def _by_day(created: Counter[datetime], since: datetime, now: datetime, paused: frozenset[int]) -> list[int]:
    """How many came in each whole day before now, the latest first, without the pauses."""
    days = [0] * int((now - since) / DAY)
    for hour, keys in created.items():
        ago = _days_ago(hour, now)
        if ago < len(days):
            days[ago] += keys
    return [keys for ago, keys in enumerate(days) if ago not in paused]


def _days_ago(hour: datetime, now: datetime) -> int:
    """How many whole days ago the middle of that hour was."""
    return max(0, (now - hour - HALF_AN_HOUR) // DAY)
