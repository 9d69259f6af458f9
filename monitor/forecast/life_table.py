"""The lifetimes of keys, estimated from their own past: a life table, in demography since Graunt and Halley. Pure.

Keys of a type are divided by two things: the days since their last use, and whether they were ever used again on a
later day (`lasting`). A contact who comes back is likely to come back again; one who wrote once is not. An expiry is
rounded up to a whole day, so all keys last used on one day expire together. Such a cohort can only shrink: the keys
missing from it a day later were used again or deleted.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

from keystore.records import LifeCount
from keystore.ttl import GUARDS, NEVER, Policy
from monitor.forecast.history import Lives, part_of_day

DAY_S = 86_400
PAIR_DAYS = (0.7, 1.3)
"""Days between two snapshots that count as one day's step; nothing is learned from other gaps."""

LATE = 0.5
"""The part of the day after which a snapshot counts as late. Between two late snapshots, a day apart, lie the next
day's uses; between two early ones, those of the day itself."""

PRIOR_KEYS = 4.0
"""The weight, in keys, of the previous day's share against the keys seen on a day: among a few keys, it decides. (The
average of all days would be too low, because the longer a key is silent, the likelier it stays silent.)"""

HELD_ALWAYS = {key_type for key_type, guard in GUARDS.items() if guard == "always"}
HELD_BY_GROUPS = {key_type for key_type, guard in GUARDS.items() if guard == "group"}
HELD_BY_CONTACTS = {key_type for key_type, guard in GUARDS.items() if guard in ("pair", "contact")}
"""The types that guards keep past their expiry: forever, while their group is active, or while their contact is."""


@dataclass(frozen=True)
class Survival:
    """The share of a type's keys that stay untouched on a day: `by_day[lasting][k]`, k days after their last use.

    `used` is the number of keys, by `lasting`, that were seen to be used again or deleted: the size of the sample.
    """

    by_day: tuple[Mapping[int, float], Mapping[int, float]]
    used: tuple[int, int]

    def share(self, lasting: bool, day: int) -> float:
        """The share left untouched on the day-th day after a use. A day never seen has the share of the one before.

        On the day of the use itself (0) the share is 1, because a second use then leaves the expiry unchanged.
        """
        if day < 1:
            return 1.0
        shares = self.by_day[lasting]
        known = max((seen_day for seen_day in shares if seen_day <= day), default=None)
        return 1.0 if known is None else shares[known]


@dataclass
class _Step:
    """Keys at the beginning and at the end of a day."""

    before: float = 0.0
    after: float = 0.0


_Steps = defaultdict[int, _Step]
"""By days since the last use."""


def lifetime_days(policy: Policy, key_type: str, *, guards: bool) -> int | None:
    """The whole days that a key stays after the day of its last use; None if the policy or a guard keeps it forever.

    (A key lives its TTL, rounded up to the next midnight: 7 days and the rest of the day on which it was used.)
    """
    ttl_s = policy.ttl_s(key_type)
    if ttl_s == NEVER or (guards and key_type in HELD_ALWAYS):
        return None
    return max(1, round(ttl_s / DAY_S))


def days_silent(count: LifeCount, today: date, own_days: int) -> int | None:
    """The days since these keys' last use, computed from their expiry; None for keys without one."""
    if count.gone_on is None:
        return None
    return max(0, own_days + 1 - (count.gone_on - today).days)


def survival(
    key_type: str, own_days: int, snapshots: Sequence[Lives], disturbed: Callable[[datetime, datetime], bool]
) -> Survival:
    """The survival of a type, from successive snapshots a day apart; its keys expire `own_days` after their last day.

    Nothing is learned from a period between two snapshots that was `disturbed`. Keys last used on the day of the first
    snapshot, or before, count only where nothing else is known: an import or a backfill may have dated them, not a use.
    """
    later_uses: tuple[_Steps, _Steps] = (defaultdict(_Step), defaultdict(_Step))
    first_uses: tuple[_Steps, _Steps] = (defaultdict(_Step), defaultdict(_Step))
    began = snapshots[0].at.date() if snapshots else date.max
    for earlier, later in pairwise(snapshots):
        gap_days = (later.at - earlier.at).total_seconds() / DAY_S
        if not PAIR_DAYS[0] <= gap_days <= PAIR_DAYS[1] or disturbed(earlier.at, later.at):
            continue
        after = _cohorts(key_type, later.counts)
        day_over = part_of_day(earlier.at)
        late = day_over >= LATE
        for (lasting, gone_on), keys in _cohorts(key_type, earlier.counts).items():
            silent = own_days + 1 - (gone_on - earlier.at.date()).days
            left = after.get((lasting, gone_on), 0)
            # Some of the keys used today are still to come.
            present: float = keys / day_over if late and not silent else keys
            day = silent + late
            # A cohort past its end is the sweeper's; one that grew was imported into.
            if day < 1 or left > present or gone_on <= later.at.date():
                continue
            used_on = earlier.at.date() - timedelta(days=silent)
            step = (later_uses if used_on > began else first_uses)[lasting][day]
            step.before += present
            step.after += present * (left / present) ** (1 / gap_days)
    return _shares(later_uses, first_uses)


def held_share(key_type: str, snapshots: Sequence[Lives], swept: float, *, guards: bool) -> float:
    """The share of keys past the end of their life that a guard keeps from one day to the next.

    It is 1 for app state. For the keys of groups and contacts it is learned: each of the `swept` keys went on one day,
    and each key that a snapshot shows past its end outlasted one. Before anything is seen, a group is expected to stay
    active, and the rest of a contact to go with its session.
    """
    if guards and key_type in HELD_ALWAYS:
        return 1.0
    if not guards or key_type not in HELD_BY_GROUPS | HELD_BY_CONTACTS:
        return 0.0
    held = sum(
        count.keys
        for snapshot in snapshots
        for count in snapshot.counts
        if count.key_type == key_type and count.gone_on and count.gone_on <= snapshot.at.date()
    )
    expected = PRIOR_KEYS if key_type in HELD_BY_GROUPS else 0.0
    return (held + expected) / (held + swept + PRIOR_KEYS)


def _cohorts(key_type: str, counts: Iterable[LifeCount]) -> dict[tuple[bool, date], int]:
    return {(c.lasting, c.gone_on): c.keys for c in counts if c.key_type == key_type and c.gone_on is not None}


def _shares(later_uses: tuple[_Steps, _Steps], first_uses: tuple[_Steps, _Steps]) -> Survival:
    by_day: list[dict[int, float]] = []
    overall = _pooled((step for steps in later_uses for step in steps.values()), 1.0)
    for lasting, own in enumerate(later_uses):
        # For a day that a class never saw, the other class's share is the next best guess.
        sources = (own, later_uses[1 - lasting], first_uses[lasting], first_uses[1 - lasting])
        share = _pooled(own.values(), overall)
        shares: dict[int, float] = {}
        for day in range(1, max((day for source in sources for day in source), default=0) + 1):
            step = next((source[day] for source in sources if day in source), None)
            share = share if step is None else _pooled([step], share)
            shares[day] = share
        by_day.append(shares)
    used = [round(sum(step.before - step.after for step in steps.values())) for steps in later_uses]
    return Survival((by_day[0], by_day[1]), (used[0], used[1]))


def _pooled(steps: Iterable[_Step], prior: float) -> float:
    steps = list(steps)
    return (sum(step.after for step in steps) + PRIOR_KEYS * prior) / (sum(step.before for step in steps) + PRIOR_KEYS)
