"""Carries a table's keys forward day by day: who is still there, who came, who was used again. Pure.

The cohort-component method of demography (Leslie 1945): the keys of a type stand in rows by how long they have been
silent; each day the survivors move one row on, those used again go back to the first row, those at the end of their
life are swept, and the new ones come in. Pre-keys, which nobody renews, have a step of their own: what keeps them is
that their company's newest generation isn't swept until another one supersedes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp

from monitor.forecast.life_table import Survival

PRE_KEY = "pre-key"


@dataclass(frozen=True)
class Cohort:
    """Keys that are equally long silent and will be gone equally soon; `days_left` None: never."""

    lasting: bool
    days_silent: int
    days_left: int | None
    keys: float


@dataclass(frozen=True)
class Stepping:
    """What drives a projection, a day. `part_of_day` is how much of the present UTC day is over, 0 to 1.

    `lifetime_days` None: keys of the type are never swept. `arrivals(day)` come between that day from now and the
    next. `held_share` of those at the end of their life stay all the same. `use_factor` scales how many are used again.
    """

    lifetime_days: int | None
    part_of_day: float
    arrivals: Callable[[int], float]
    deleted_share: float
    survival: Survival
    held_share: float = 0.0
    use_factor: float = 1.0


def project(cohorts: Sequence[Cohort], stepping: Stepping, days: int) -> list[float]:
    """How many keys there are after 0, 1, … `days` days, of a type that uses renew."""
    if stepping.lifetime_days is None:
        return _project_without_end(cohorts, stepping, days)
    untouched = _shares_by_silence(stepping, stepping.lifetime_days)
    # Rows by days silent, of keys under the lifetime in force; those that have another one left to live are apart.
    rows = [[0.0] * (stepping.lifetime_days + 1) for _ in (False, True)]
    others: list[Cohort] = []
    endless = 0.0
    for cohort in cohorts:
        if cohort.days_left is None or (cohort.days_left <= 0 and stepping.held_share):
            endless += cohort.keys
        elif cohort.days_left + cohort.days_silent == stepping.lifetime_days + 1 or cohort.days_left <= 0:
            rows[cohort.lasting][min(cohort.days_silent, stepping.lifetime_days)] += cohort.keys
        else:
            others.append(cohort)
    path = [endless + sum(map(sum, rows)) + sum(cohort.keys for cohort in others)]
    for day in range(days):
        rows, others, endless = _step(rows, others, endless, stepping, untouched, stepping.arrivals(day))
        path.append(endless + sum(map(sum, rows)) + sum(cohort.keys for cohort in others))
    return path


def _step(
    rows: list[list[float]],
    others: list[Cohort],
    endless: float,
    stepping: Stepping,
    untouched: list[list[float]],
    arrivals: float,
) -> tuple[list[list[float]], list[Cohort], float]:
    part, last = stepping.part_of_day, len(rows[0]) - 1
    there = endless + sum(map(sum, rows)) + sum(cohort.keys for cohort in others)
    stepped = [[0.0] * (last + 1) for _ in rows]
    touched = ended = 0.0
    for lasting, row in enumerate(rows):
        for silent, keys in enumerate(row):
            share = untouched[lasting][silent]
            if silent < last:
                stepped[lasting][silent + 1] += keys * share
                touched += keys * (1 - share)
            else:
                untouched_to_the_end = keys * share  # Until midnight, that is.
                touched += keys - untouched_to_the_end
                ended += untouched_to_the_end
    kept: list[Cohort] = []
    for cohort in others:
        share = untouched[cohort.lasting][min(cohort.days_silent, last)]
        left = (cohort.days_left or 0) - 1
        if left > 0:
            kept.append(Cohort(cohort.lasting, cohort.days_silent + 1, left, cohort.keys * share))
            touched += cohort.keys * (1 - share)
        else:
            untouched_to_the_end = cohort.keys * untouched[cohort.lasting][last]
            touched += cohort.keys - untouched_to_the_end
            ended += untouched_to_the_end
    deleted = stepping.deleted_share * there
    used_again = max(0.0, touched - deleted)
    # Of a day's uses, those before midnight are a day old by now.
    for lasting, keys in ((0, arrivals), (1, used_again)):
        stepped[lasting][0] += keys * part
        stepped[lasting][min(1, last)] += keys * (1 - part)
    return stepped, kept, endless * (1 - stepping.deleted_share) + ended * stepping.held_share


def _shares_by_silence(stepping: Stepping, lifetime_days: int) -> list[list[float]]:
    """The share left untouched until this time tomorrow, `[lasting][days silent]`; in the last row, until midnight.

    From now on that is the rest of one day of silence and the part of the next that is over by then.
    """

    def of_day(lasting: bool, day: int) -> float:
        return max(0.0, 1 - (1 - stepping.survival.share(lasting, day)) * stepping.use_factor)

    part = stepping.part_of_day
    return [
        [
            *(of_day(lasting, day) ** (1 - part) * of_day(lasting, day + 1) ** part for day in range(lifetime_days)),
            of_day(lasting, lifetime_days) ** (1 - part),
        ]
        for lasting in (False, True)
    ]


def _project_without_end(cohorts: Sequence[Cohort], stepping: Stepping, days: int) -> list[float]:
    """Of a type whose keys never go: those that had an expiry before keep it until they are used, or are held."""
    lasting = sum(cohort.keys for cohort in cohorts if cohort.days_left is None)
    others = [cohort for cohort in cohorts if cohort.days_left is not None]
    path = [lasting + sum(cohort.keys for cohort in others)]
    for day in range(days):
        kept: list[Cohort] = []
        for cohort in others:
            untouched = cohort.keys * stepping.survival.share(cohort.lasting, cohort.days_silent + 1)
            lasting += cohort.keys - untouched
            left = (cohort.days_left or 0) - 1
            if left > 0:
                kept.append(Cohort(cohort.lasting, cohort.days_silent + 1, left, untouched))
            else:
                lasting += untouched * stepping.held_share
        others = kept
        lasting = lasting * (1 - stepping.deleted_share) + stepping.arrivals(day)
        path.append(lasting + sum(cohort.keys for cohort in others))
    return path


@dataclass(frozen=True)
class PreKeyStepping:
    """What drives the projection of pre-keys, a day, over all companies.

    `superseded` is how often a company gets a new generation; `arrivals` come with those, `starts` with new companies.
    Consumption takes `consumed` keys, of the newest generation first. `lifetime_days` None: never swept.
    """

    lifetime_days: int | None
    superseded: float
    arrivals: float
    starts: float
    consumed: float
    guards: bool


def project_pre_keys(cohorts: Sequence[Cohort], stepping: PreKeyStepping, days: int) -> list[float]:
    """How many pre-keys there are after 0, 1, … `days` days. A lasting cohort is of its company's newest generation."""
    if stepping.lifetime_days is None:
        return _grown(sum(cohort.keys for cohort in cohorts), stepping, days)
    rows = stepping.lifetime_days + 2
    newest, older = [0.0] * rows, [0.0] * rows
    endless = 0.0
    for cohort in cohorts:
        if cohort.days_left is None:
            endless += cohort.keys
        else:
            (newest if cohort.lasting else older)[max(0, min(cohort.days_left, rows - 1))] += cohort.keys
    if not stepping.guards:
        older, newest = [a + b for a, b in zip(older, newest, strict=True)], [0.0] * rows
    path = [endless + sum(newest) + sum(older)]
    passed_on = 1 - exp(-stepping.superseded)
    for _ in range(days):
        # Row 0 holds what is past its end: of older generations it is swept, the newest stays there.
        newest, older = [newest[0] + newest[1], *newest[2:], 0.0], [0.0, *older[2:], 0.0]
        for row in range(1, rows):
            older[row] += newest[row] * passed_on
        newest = [keys * (1 - passed_on) for keys in newest]
        (newest if stepping.guards else older)[-2] += stepping.arrivals + stepping.starts
        left = _taken(newest, stepping.consumed)
        _taken(older, left)
        path.append(endless + sum(newest) + sum(older))
    return path


def _taken(rows: list[float], keys: float) -> float:
    """Takes so many keys from the rows, from each its share; how many there were too few."""
    there = sum(rows)
    left = max(0.0, there - keys)
    for row, present in enumerate(rows):
        rows[row] = present * left / there if there else 0.0
    return keys - (there - left)


def _grown(there: float, stepping: PreKeyStepping, days: int) -> list[float]:
    path = [there]
    for _ in range(days):
        path.append(max(0.0, path[-1] + stepping.arrivals + stepping.starts - stepping.consumed))
    return path
