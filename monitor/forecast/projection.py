"""Carries a table's keys forward day by day: the keys that remain, arrive, and are used again. Pure.

This is the cohort-component method of demography (Leslie 1945). The keys of a type stand in rows by the days they have
been silent. Each day the survivors move one row on, and those used again go back to the first row. Those at the end of
their life are swept, and new ones come in. Pre-keys have a step of their own, because nobody renews them: a company's
newest generation of pre-keys isn't swept until another one supersedes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp

from monitor.forecast.life_table import Survival

PRE_KEY = "pre-key"


@dataclass(frozen=True)
class Cohort:
    """Keys that have been silent equally long and will be gone equally soon; `days_left` None: never."""

    lasting: bool
    days_silent: int
    days_left: int | None
    keys: float


@dataclass(frozen=True)
class Rates:
    """The daily rates of a projection. `part_of_day` is the share of the present UTC day that is over, 0 to 1.

    `lifetime_days` None: keys of the type are never swept. `arrivals(day)` come between that day from now and the
    next. `held_share` of the keys at the end of their life stay all the same. `use_factor` scales the share of keys
    that are used again.
    """

    lifetime_days: int | None
    part_of_day: float
    arrivals: Callable[[int], float]
    deleted_share: float
    survival: Survival
    held_share: float = 0.0
    use_factor: float = 1.0


def project(cohorts: Sequence[Cohort], rates: Rates, days: int) -> list[float]:
    """The keys after 0, 1, … `days` days, of a type whose uses renew it."""
    if rates.lifetime_days is None:
        return _project_without_end(cohorts, rates, days)
    untouched = _shares_by_silence(rates, rates.lifetime_days)
    # Rows by days silent, of keys under the lifetime in force; keys under an earlier lifetime stand apart.
    rows = [[0.0] * (rates.lifetime_days + 1) for _ in (False, True)]
    others: list[Cohort] = []
    endless = 0.0
    for cohort in cohorts:
        if cohort.days_left is None or (cohort.days_left <= 0 and rates.held_share):
            endless += cohort.keys
        elif cohort.days_left + cohort.days_silent == rates.lifetime_days + 1 or cohort.days_left <= 0:
            rows[cohort.lasting][min(cohort.days_silent, rates.lifetime_days)] += cohort.keys
        else:
            others.append(cohort)
    path = [_total(rows, others, endless)]
    for day in range(days):
        rows, others, endless = _step(rows, others, endless, rates, untouched, rates.arrivals(day))
        path.append(_total(rows, others, endless))
    return path


def _total(rows: list[list[float]], others: list[Cohort], endless: float) -> float:
    return endless + sum(map(sum, rows)) + sum(cohort.keys for cohort in others)


def _step(
    rows: list[list[float]],
    others: list[Cohort],
    endless: float,
    rates: Rates,
    untouched: list[list[float]],
    arrivals: float,
) -> tuple[list[list[float]], list[Cohort], float]:
    part, last = rates.part_of_day, len(rows[0]) - 1
    next_rows = [[0.0] * (last + 1) for _ in rows]
    touched = ended = 0.0
    for lasting, row in enumerate(rows):
        for silent, keys in enumerate(row):
            left = keys * untouched[lasting][silent]  # In the last row: untouched until midnight.
            touched += keys - left
            if silent < last:
                next_rows[lasting][silent + 1] += left
            else:
                ended += left
    next_others: list[Cohort] = []
    for cohort in others:
        days_left = (cohort.days_left or 0) - 1
        silent = min(cohort.days_silent, last) if days_left > 0 else last
        left = cohort.keys * untouched[cohort.lasting][silent]
        touched += cohort.keys - left
        if days_left > 0:
            next_others.append(Cohort(cohort.lasting, cohort.days_silent + 1, days_left, left))
        else:
            ended += left
    deleted = rates.deleted_share * _total(rows, others, endless)
    used_again = max(0.0, touched - deleted)
    # The day's uses before midnight are a day old by now.
    for lasting, keys in ((0, arrivals), (1, used_again)):
        next_rows[lasting][0] += keys * part
        next_rows[lasting][min(1, last)] += keys * (1 - part)
    return next_rows, next_others, endless * (1 - rates.deleted_share) + ended * rates.held_share


def _shares_by_silence(rates: Rates, lifetime_days: int) -> list[list[float]]:
    """The share left untouched until this time tomorrow, `[lasting][days silent]`; in the last row, until midnight.

    That time is the rest of one day of silence, and the part of the next that is over by then.
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
    """The path of a type that is never swept: keys with an earlier expiry keep it until they are used, or are held."""
    lasting = sum(cohort.keys for cohort in cohorts if cohort.days_left is None)
    others = [cohort for cohort in cohorts if cohort.days_left is not None]
    path = [lasting + sum(cohort.keys for cohort in others)]
    for day in range(days):
        next_others: list[Cohort] = []
        for cohort in others:
            untouched = cohort.keys * rates.survival.share(cohort.lasting, cohort.days_silent + 1)
            lasting += cohort.keys - untouched
            days_left = (cohort.days_left or 0) - 1
            if days_left > 0:
                next_others.append(Cohort(cohort.lasting, cohort.days_silent + 1, days_left, untouched))
            else:
                lasting += untouched * rates.held_share
        others = next_others
        lasting = lasting * (1 - rates.deleted_share) + rates.arrivals(day)
        path.append(lasting + sum(cohort.keys for cohort in others))
    return path


@dataclass(frozen=True)
class PreKeyRates:
    """The daily rates of a projection of pre-keys, over all companies.

    `superseded` is how often a company gets a new generation; `arrivals` come with those, `starts` with new companies.
    Consumption takes `consumed` keys, of the newest generation first. `lifetime_days` None: never swept.
    """

    lifetime_days: int | None
    superseded: float
    arrivals: float
    starts: float
    consumed: float
    guards: bool


def project_pre_keys(cohorts: Sequence[Cohort], rates: PreKeyRates, days: int) -> list[float]:
    """The pre-keys after 0, 1, … `days` days. A lasting cohort belongs to its company's newest generation."""
    if rates.lifetime_days is None:
        path = [sum(cohort.keys for cohort in cohorts)]
        for _ in range(days):
            path.append(max(0.0, path[-1] + rates.arrivals + rates.starts - rates.consumed))
        return path
    rows = rates.lifetime_days + 2
    newest, older = [0.0] * rows, [0.0] * rows
    endless = 0.0
    for cohort in cohorts:
        if cohort.days_left is None:
            endless += cohort.keys
        else:
            (newest if cohort.lasting else older)[max(0, min(cohort.days_left, rows - 1))] += cohort.keys
    if not rates.guards:
        older, newest = [a + b for a, b in zip(older, newest, strict=True)], [0.0] * rows
    path = [endless + sum(newest) + sum(older)]
    passed_on = 1 - exp(-rates.superseded)
    for _ in range(days):
        # Row 0 holds the keys past their end: those of older generations are swept, the newest generation stays.
        newest, older = [newest[0] + newest[1], *newest[2:], 0.0], [0.0, *older[2:], 0.0]
        for row in range(1, rows):
            older[row] += newest[row] * passed_on
        newest = [keys * (1 - passed_on) for keys in newest]
        (newest if rates.guards else older)[-2] += rates.arrivals + rates.starts
        _take(older, _take(newest, rates.consumed))
        path.append(endless + sum(newest) + sum(older))
    return path


def _take(rows: list[float], keys: float) -> float:
    """Take keys from the rows, from each its share. Returns how many keys were missing."""
    total = sum(rows)
    left = max(0.0, total - keys)
    for row, present in enumerate(rows):
        rows[row] = present * left / total if total else 0.0
    return keys - (total - left)
