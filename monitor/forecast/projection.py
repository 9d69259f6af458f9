"""Projects the number of a type's keys day by day: the keys that remain, arrive, and are used again. Pure.

This is the cohort-component method of demography (Leslie 1945). A type's keys are counted by silence: the days since
their last use. Each day the untouched keys become one day more silent, and those used again return to 0 days. Keys at
the end of their life are swept, and new keys arrive. Pre-keys have a step of their own, because nobody renews them: a
company's newest 1,000 pre-keys aren't swept until newer ones displace them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul, sub

from keystore.ttl import PRE_KEYS_KEPT
from monitor.forecast.life_table import Survival

PRE_KEY = "pre-key"


@dataclass(frozen=True)
class Cohort:
    """A number of keys of one type with the same last day of use and the same day of expiry.

    `lasting` keys were used again on a day after their creation; of pre-keys, a company's newest 1,000 are `lasting`.
    `days_left` is None for keys that never expire.
    """

    lasting: bool
    days_silent: int
    days_left: int | None
    keys: float


@dataclass(frozen=True)
class Rates:
    """The daily rates of a projection.

    `lifetime_days` is None if keys of the type are never swept. `part_of_day` is the share of the present UTC day that
    is over, from 0 to 1. `arrivals(n)` is the number of keys that arrive between n and n + 1 days from now.
    `deleted_share` of the keys are deleted each day. Of the keys past the end of their life, guards keep `held_share`
    from one day to the next. `use_factor` scales the share of keys that are used again.
    """

    lifetime_days: int | None
    part_of_day: float
    arrivals: Callable[[int], float]
    deleted_share: float
    survival: Survival
    held_share: float = 0.0
    use_factor: float = 1.0


def project(cohorts: Sequence[Cohort], rates: Rates, days: int) -> list[float]:
    """Return the number of keys after 0, 1, … `days` days, for a type whose keys are renewed by use."""
    if rates.lifetime_days is None:
        return _project_without_end(cohorts, rates, days)
    untouched_shares = _untouched_shares(rates, rates.lifetime_days)
    # `by_silence[lasting][days silent]` counts the keys that have the present lifetime.
    by_silence = [[0.0] * (rates.lifetime_days + 1) for _ in (False, True)]
    old_cohorts: list[Cohort] = []  # Those have an earlier lifetime.
    endless_keys = held_keys = 0.0
    for cohort in cohorts:
        if cohort.days_left is None:
            endless_keys += cohort.keys
        # Keys past their expiry count as held by a guard, if guards hold keys of this type.
        elif cohort.days_left <= 0 and rates.held_share:
            held_keys += cohort.keys
        # A key used today has a day more left than its lifetime, because its expiry is rounded up to a whole day.
        elif cohort.days_left + cohort.days_silent == rates.lifetime_days + 1 or cohort.days_left <= 0:
            by_silence[cohort.lasting][min(cohort.days_silent, rates.lifetime_days)] += cohort.keys
        else:
            old_cohorts.append(cohort)
    path = [endless_keys + _total(by_silence, old_cohorts, held_keys)]
    for day in range(days):
        by_silence, old_cohorts, held_keys = _step(
            by_silence, old_cohorts, held_keys, rates, untouched_shares, rates.arrivals(day)
        )
        endless_keys *= 1 - rates.deleted_share
        path.append(endless_keys + _total(by_silence, old_cohorts, held_keys))
    return path


def _total(by_silence: list[list[float]], old_cohorts: list[Cohort], held_keys: float) -> float:
    return held_keys + sum(map(sum, by_silence)) + sum(cohort.keys for cohort in old_cohorts)


def _step(
    by_silence: list[list[float]],
    old_cohorts: list[Cohort],
    held_keys: float,
    rates: Rates,
    untouched_shares: list[list[float]],
    arrivals: float,
) -> tuple[list[list[float]], list[Cohort], float]:
    """Return the keys of this time tomorrow, in the same three parts."""
    part, last_day = rates.part_of_day, len(by_silence[0]) - 1
    next_by_silence = []
    touched = ended = 0.0
    for counts, shares in zip(by_silence, untouched_shares, strict=True):
        untouched_keys = list(map(mul, counts, shares))  # On the last day: untouched until midnight.
        touched = sum(map(sub, counts, untouched_keys), touched)
        ended += untouched_keys[-1]
        next_by_silence.append([0.0, *untouched_keys[:-1]])
    next_cohorts: list[Cohort] = []
    for cohort in old_cohorts:
        days_left = (cohort.days_left or 0) - 1
        silent = min(cohort.days_silent, last_day) if days_left > 0 else last_day
        untouched = cohort.keys * untouched_shares[cohort.lasting][silent]
        touched += cohort.keys - untouched
        if days_left > 0:
            next_cohorts.append(Cohort(cohort.lasting, cohort.days_silent + 1, days_left, untouched))
        else:
            ended += untouched
    deleted = rates.deleted_share * _total(by_silence, old_cohorts, held_keys)
    used_again = max(0.0, touched - deleted)
    # The step ends at this time tomorrow. Keys that were created or used before midnight are a day silent by then.
    for lasting, keys in ((0, arrivals), (1, used_again)):
        next_by_silence[lasting][0] += keys * part
        next_by_silence[lasting][min(1, last_day)] += keys * (1 - part)
    return next_by_silence, next_cohorts, (held_keys * (1 - rates.deleted_share) + ended) * rates.held_share


def _untouched_shares(rates: Rates, lifetime_days: int) -> list[list[float]]:
    """The share of keys left untouched until this time tomorrow, as `[lasting][days silent]`.

    These 24 hours cover the rest of one day of silence and the beginning of the next, so each day's share counts in
    proportion. Keys on their last day expire at midnight, so their share covers only the rest of that day.
    """

    def share(lasting: bool, day: int) -> float:
        return max(0.0, 1 - (1 - rates.survival.share(lasting, day)) * rates.use_factor)

    part = rates.part_of_day
    return [
        [
            *(share(lasting, day) ** (1 - part) * share(lasting, day + 1) ** part for day in range(lifetime_days)),
            share(lasting, lifetime_days) ** (1 - part),
        ]
        for lasting in (False, True)
    ]


def _project_without_end(cohorts: Sequence[Cohort], rates: Rates, days: int) -> list[float]:
    """The path of a type that is never swept. Keys that still have an expiry lose it when they are used, or held."""
    endless_keys = sum(cohort.keys for cohort in cohorts if cohort.days_left is None)
    old_cohorts = [cohort for cohort in cohorts if cohort.days_left is not None]
    path = [endless_keys + sum(cohort.keys for cohort in old_cohorts)]
    for day in range(days):
        next_cohorts: list[Cohort] = []
        for cohort in old_cohorts:
            untouched = cohort.keys * rates.survival.share(cohort.lasting, cohort.days_silent + 1)
            endless_keys += cohort.keys - untouched
            days_left = (cohort.days_left or 0) - 1
            if days_left > 0:
                next_cohorts.append(Cohort(cohort.lasting, cohort.days_silent + 1, days_left, untouched))
            else:
                endless_keys += untouched * rates.held_share
        old_cohorts = next_cohorts
        endless_keys = endless_keys * (1 - rates.deleted_share) + rates.arrivals(day)
        path.append(endless_keys + sum(cohort.keys for cohort in old_cohorts))
    return path


@dataclass(frozen=True)
class PreKeyRates:
    """The daily rates of a projection of pre-keys, for all companies together.

    `lifetime_days` is None if pre-keys are never swept. `companies` have some now, and `new_companies` come each day.
    `arrivals` are the new keys of known companies, and `starts` those of new ones. `consumed` keys are used up. With
    `guards`, no sweep deletes a company's newest 1,000 keys.
    """

    lifetime_days: int | None
    companies: float
    new_companies: float
    arrivals: float
    starts: float
    consumed: float
    guards: bool


def project_pre_keys(cohorts: Sequence[Cohort], rates: PreKeyRates, days: int) -> list[float]:
    """Return the number of pre-keys after 0, 1, … `days` days. A lasting cohort is of a company's newest keys.

    A company that has 1,000 pre-keys loses its oldest to each new one. Companies differ, so some may be full while
    others have room: the keys that are no longer among the newest show how many were displaced during a lifetime.
    """
    if rates.lifetime_days is None:
        path = [sum(cohort.keys for cohort in cohorts)]
        for _ in range(days):
            path.append(max(0.0, path[-1] + rates.arrivals + rates.starts - rates.consumed))
        return path
    # Both lists count keys by the days left until their expiry.
    size = rates.lifetime_days + 2
    newest, older = [0.0] * size, [0.0] * size
    endless_keys = 0.0
    for cohort in cohorts:
        if cohort.days_left is None:
            endless_keys += cohort.keys
        else:
            (newest if cohort.lasting else older)[max(0, min(cohort.days_left, size - 1))] += cohort.keys
    if not rates.guards:
        older, newest = [a + b for a, b in zip(older, newest, strict=True)], [0.0] * size
    path = [endless_keys + sum(newest) + sum(older)]
    displaced = min(rates.arrivals, sum(older) / rates.lifetime_days)
    room = PRE_KEYS_KEPT * rates.companies
    for _ in range(days):
        # Keys with 0 days left have expired. Only those that aren't among the newest are swept.
        newest, older = [newest[0] + newest[1], *newest[2:], 0.0], [0.0, *older[2:], 0.0]
        (newest if rates.guards else older)[rates.lifetime_days] += rates.arrivals + rates.starts
        _take(older, _take(newest, rates.consumed))
        room += PRE_KEYS_KEPT * rates.new_companies
        _displace(newest, older, max(displaced, sum(newest) - room) if rates.guards else 0.0)
        path.append(endless_keys + sum(newest) + sum(older))
    return path


def _displace(newest: list[float], older: list[float], keys: float) -> None:
    """Move this many of the newest keys to the older ones, those with the fewest days left first."""
    for days_left, count in enumerate(newest):
        moved = min(count, keys)
        newest[days_left] -= moved
        older[days_left] += moved if days_left else 0.0
        keys -= moved


def _take(counts: list[float], keys: float) -> float:
    """Remove this many keys, from each count in proportion. Returns the number that was missing."""
    total = sum(counts)
    remaining = max(0.0, total - keys)
    for index, count in enumerate(counts):
        counts[index] = count * remaining / total if total else 0.0
    return keys - (total - remaining)
