"""How long keys go on living, read off their own past: a life table, as demography has had it since Graunt and Halley.

Keys of a type are told apart by two things: how many days they have been silent, and whether they were ever used again
on a later day than they came (`lasting`: a contact who comes back is likely to come back again, one who wrote once
is not). Because an expiry is rounded up to a whole day, all keys last used on one day expire together: such a cohort
can only get smaller, and what is missing from it a day later was used again or deleted. Pure functions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

from keystore.records import LifeCount
from keystore.ttl import NEVER, Policy
from monitor.forecast.history import Lives, part_of_day

DAY_S = 86_400
PAIR_DAYS = (0.7, 1.3)
"""Two snapshots this far apart are a day's step; after a longer gap nothing is learned."""

LATE = 0.5
"""Of two snapshots a day apart, taken later in the day than this, the next day's uses are what lies between them; taken
earlier, those of the day itself."""

PRIOR_KEYS = 4.0
"""How many keys' worth the share of the day before weighs against what was seen of a day: with fewer than a handful
seen, it decides. (The longer the silence, the likelier it lasts; so the average of all days would be too low.)"""

HELD_BY_THEIR_GROUP = ("sender-key", "sender-key-memory")
"""Types that a guard keeps past their expiry for as long as somebody in their group is heard of."""

SYNC_KEY = "app-state-sync-key"


@dataclass(frozen=True)
class Survival:
    """The share of a type's keys that stay untouched on a day: `by_day[lasting][k]`, k days after their last use.

    `used` is how many were seen to be used again or deleted, by `lasting`: what the shares rest on.
    """

    by_day: tuple[Mapping[int, float], Mapping[int, float]]
    used: tuple[int, int]

    def share(self, lasting: bool, day: int) -> float:
        """The share left untouched on the day-th day after a use; of a day never seen, that of the one before it.

        The rest of the day of the use itself (0) changes nothing: a second use then leaves the expiry as it is.
        """
        if day < 1:
            return 1.0
        seen = self.by_day[lasting]
        known = max((one for one in seen if one <= day), default=None)
        return 1.0 if known is None else seen[known]


@dataclass
class _Seen:
    before: float = 0.0
    after: float = 0.0


@dataclass
class _Class:
    by_day: dict[int, _Seen] = field(default_factory=lambda: defaultdict(_Seen))


def lifetime_days(policy: Policy, key_type: str, *, guards: bool) -> int | None:
    """How many whole days a key stays after the day of its last use; None for ever, be it by the policy or a guard.

    (A key lives its TTL, rounded up to the next midnight: 7 days and the rest of the day on which it was used.)
    """
    ttl_s = policy.ttl_s(key_type)
    if ttl_s == NEVER or (guards and key_type == SYNC_KEY):
        return None
    return max(1, round(ttl_s / DAY_S))


def days_silent(count: LifeCount, today: date, own_days: int) -> int | None:
    """For how many days these keys have been silent, from when they will be gone; None for keys without an end."""
    if count.gone_on is None:
        return None
    return max(0, own_days + 1 - (count.gone_on - today).days)


def survival(
    key_type: str, own_days: int, snapshots: Sequence[Lives], disturbed: Callable[[datetime, datetime], bool]
) -> Survival:
    """What successive snapshots, a day apart, say of this type, whose keys expire `own_days` after their last day.

    Nothing is learned from a time between two snapshots that was `disturbed`. Keys last used on the day of the first
    snapshot, or before, count only where nothing else is known: an import or a backfill may have dated them, not a use.
    """
    classes, at_first = (_Class(), _Class()), (_Class(), _Class())
    began = snapshots[0].at.date() if snapshots else date.max
    for earlier, later in pairwise(snapshots):
        gap_days = (later.at - earlier.at).total_seconds() / DAY_S
        if not PAIR_DAYS[0] <= gap_days <= PAIR_DAYS[1] or disturbed(earlier.at, later.at):
            continue
        before, after = _cohorts(key_type, earlier.counts), _cohorts(key_type, later.counts)
        day_over = part_of_day(earlier.at)
        late = day_over >= LATE
        for (lasting, gone_on), keys in before.items():
            silent = own_days + 1 - (gone_on - earlier.at.date()).days
            left = after.get((lasting, gone_on), 0)
            there: float = keys / day_over if late and not silent else keys  # Of today's, the last are still to come.
            day = silent + late
            # A cohort that is past its end is the sweeper's; one that grew was imported into.
            if day < 1 or left > there or gone_on <= later.at.date():
                continue
            used_on = earlier.at.date() - timedelta(days=silent)
            seen = (classes if used_on > began else at_first)[lasting].by_day[day]
            seen.before += there
            seen.after += there * (left / there) ** (1 / gap_days)
    return _shares(classes, at_first)


def held_share(key_type: str, snapshots: Sequence[Lives], swept: float, *, guards: bool) -> float:
    """The share of keys that a guard keeps past the end of their life: all of a sync key's, or for their group's sake.

    Those that stand there past it, against the `swept` ones; all of them as long as none was seen to go.
    """
    if guards and key_type == SYNC_KEY:
        return 1.0
    if not guards or key_type not in HELD_BY_THEIR_GROUP:
        return 0.0
    if not snapshots:
        return 1.0
    today = snapshots[-1].at.date()
    past = sum(c.keys for c in snapshots[-1].counts if c.key_type == key_type and c.gone_on and c.gone_on <= today)
    return (past + PRIOR_KEYS) / (past + swept + PRIOR_KEYS)


def _cohorts(key_type: str, counts: Iterable[LifeCount]) -> dict[tuple[bool, date], int]:
    return {(c.lasting, c.gone_on): c.keys for c in counts if c.key_type == key_type and c.gone_on is not None}


def _shares(classes: tuple[_Class, _Class], at_first: tuple[_Class, _Class]) -> Survival:
    by_day: list[dict[int, float]] = []
    used: list[int] = []
    everything = _pooled([seen for one in classes for seen in one.by_day.values()], 1.0)
    for lasting, one in enumerate(classes):
        # Of a day that a class never saw, the other's share is the next best guess.
        sources = (one, classes[1 - lasting], at_first[lasting], at_first[1 - lasting])
        share = _pooled(list(one.by_day.values()), everything)
        shares: dict[int, float] = {}
        for day in range(1, max((day for source in sources for day in source.by_day), default=0) + 1):
            seen = next((source.by_day[day] for source in sources if day in source.by_day), None)
            share = share if seen is None else _pooled([seen], share)
            shares[day] = share
        by_day.append(shares)
        used.append(round(sum(seen.before - seen.after for seen in one.by_day.values())))
    return Survival((by_day[0], by_day[1]), (used[0], used[1]))


def _pooled(seen: list[_Seen], prior: float) -> float:
    before, after = sum(one.before for one in seen), sum(one.after for one in seen)
    return (after + PRIOR_KEYS * prior) / (before + PRIOR_KEYS)
