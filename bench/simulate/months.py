"""A month in seconds: companies live it through the real store, policy and sweeper, and the forecasts are held to it.

`python -m bench.simulate` lives the diary's month from its 665 keys, prints its timeline, and then as many months of
random traffic mixes as asked for, each with the forecasts of day 7 and 14 against what came by day 30. Everything is
driven by a clock of its own; the same seeds give the same months.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.simulate.life import DIARY_LIKE, HOUR, Company, Mix, random_mix
from keystore import KeystoreError, Store, open_store
from monitor.forecast.daily_records import write_daily_records
from monitor.growth import growth_report
from monitor.running.progress import progress_bar
from monitor.sweeper import sweep
from monitor.upkeep.backfill import backfill_expiries
from monitor.upkeep.demo import seed as seed_diary

DAY_0 = datetime(2025, 10, 8, 9, 0, tzinfo=UTC)
DAYS = 30
FORECAST_ON = (7, 14)
TIMELINE = (0, 7, 14, 30)
SWEEP_HOURS = 6
MEDIAN_LIMIT_PERCENT, WORST_LIMIT_PERCENT = 10.0, 20.0
"""What the forecast of day 14 for day 30 is held to, over all mixes."""


class Clock:
    """The simulated time."""

    def __init__(self) -> None:
        self.now = DAY_0

    def __call__(self) -> datetime:
        return self.now

    def set(self, now: datetime) -> None:
        """Sets it."""
        self.now = now


@dataclass(frozen=True)
class Held:
    """One forecast, of day `made_on` for day 30, against what came. Errors are in percent of that."""

    made_on: int
    low: int
    expected: int
    high: int
    came: int
    error_percent: float
    within: bool
    diary: int
    diary_error_percent: float


@dataclass(frozen=True)
class Month:
    """One simulated month: how many keys there were on each day, and the forecasts against the last."""

    mix: Mix
    totals: tuple[int, ...]
    forecasts: tuple[Held, ...]
    swept: int
    messages: int


@dataclass(frozen=True)
class Accuracy:
    """The forecasts of one day for day 30, over all mixes, in percent of what came; and the diary's."""

    made_on: int
    mixes: int
    median_percent: float
    worst_percent: float
    within: int
    diary_median_percent: float
    diary_worst_percent: float


def month(store: Store, clock: Clock, mix: Mix, *, from_diary: bool, told: Callable[[int, int], None]) -> Month:
    """Lives one month of a mix on an empty store."""
    clock.set(DAY_0)
    if from_diary:
        seed_diary(store, "demo")
        backfill_expiries(store)
    company = Company(store, "demo", mix, DAY_0, paired=from_diary)
    totals, swept, made = [], 0, []
    for hours in range(DAYS * 24 + 1):
        hour = DAY_0 + hours * HOUR
        clock.set(hour)
        if hours % SWEEP_HOURS == 0:
            swept += sweep(store).deleted
        write_daily_records(store)
        if hours % 24 == 0:
            day = hours // 24
            totals.append(store.census().total)
            if day in FORECAST_ON:
                report = growth_report(store)
                if report.forecast is None:
                    raise KeystoreError(f"no forecast on day {day}: {report.forecast_waits_for}")
                made.append((day, report.forecast.keys_at(DAYS - day), report.diary["7"].keys))
            told(day, DAYS)
        if hours < DAYS * 24:
            company.live(hour, clock.set)
    return Month(mix, tuple(totals), tuple(_held(*one, totals[-1]) for one in made), swept, company.messages)


def _held(made_on: int, said: tuple[int, int, int], diary: int, came: int) -> Held:
    low, expected, high = said
    return Held(
        made_on,
        low,
        expected,
        high,
        came,
        round(100 * (expected - came) / came, 1),
        low <= came <= high,
        diary,
        round(100 * (diary - came) / came, 1),
    )


def accuracy(months: list[Month], made_on: int) -> Accuracy:
    """How the forecasts of one day came out."""
    held = [one for month in months for one in month.forecasts if one.made_on == made_on]
    errors = [abs(one.error_percent) for one in held]
    diary = [abs(one.diary_error_percent) for one in held]
    return Accuracy(
        made_on,
        len(held),
        round(median(errors), 1),
        max(errors),
        sum(one.within for one in held),
        round(median(diary), 1),
        max(diary),
    )


def main(args: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; 1 when the forecasts miss their limits."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    parser.add_argument("--mixes", type=int, default=20, help="how many random months (20)")
    parser.add_argument("--first-seed", type=int, default=1, help="the first one's seed; the others' follow (1)")
    parser.add_argument(
        "--regularity", type=float, metavar="R", help="of all reconnects, 0 at random to 1 like clockwork"
    )
    parser.add_argument("--url", help="an empty PostgreSQL database to live in, for the diary's month alone")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything as JSON too")
    given = parser.parse_args(args)
    if given.mixes < 0 or not 0 <= (given.regularity or 0) <= 1:
        parser.error("--mixes is 0 or more, and --regularity from 0 to 1")
    if given.url and not given.url.startswith(("postgresql://", "postgres://")):
        parser.error("--url is a PostgreSQL address; without it the months are lived in files of their own")
    try:
        if given.json:
            given.json.touch()  # Before an hour's work, not after it.
        return _simulate(given)
    except KeystoreError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def _simulate(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        diary = _on(given.url or f"sqlite:///{folder}/diary.db", DIARY_LIKE, "the diary's month", from_diary=True)
        _print_timeline(diary)
        months = []
        if not given.url:
            for number in range(given.mixes):
                seed = given.first_seed + number
                mix = random_mix(seed)
                if given.regularity is not None:
                    mix = replace(mix, regularity=given.regularity)
                label = f"mix {number + 1} of {given.mixes}"
                months.append(_on(f"sqlite:///{folder}/{seed}.db", mix, label, from_diary=False))
    results: list[Accuracy] = [accuracy(months, day) for day in FORECAST_ON] if months else []
    if months:
        _print_mixes(months, results)
    if given.json:
        document = {
            "diary": asdict(diary),
            "mixes": [asdict(one) for one in months],
            "accuracy": list(map(asdict, results)),
        }
        given.json.write_text(json.dumps(document, indent=2, default=str), encoding="utf-8")
    return 0 if all(_met(result) for result in results if result.made_on == FORECAST_ON[-1]) else 1


def _on(url: str, mix: Mix, label: str, *, from_diary: bool) -> Month:
    clock = Clock()
    with closing(open_store(url, clock=clock)) as store, progress_bar(label) as told:
        if store.companies():
            raise KeystoreError(
                f"{store.database} isn't empty, and a simulated month would sweep it; name an empty one"
            )
        return month(store, clock, mix, from_diary=from_diary, told=told)


def _met(result: Accuracy) -> bool:
    return result.median_percent <= MEDIAN_LIMIT_PERCENT and result.worst_percent <= WORST_LIMIT_PERCENT


def _print_timeline(month: Month) -> None:
    print(f"The diary's month: {month.messages:,} messages, {month.swept:,} keys swept\n")
    print("  day   simulated   the diary's projection   forecast of day 7   forecast of day 14")
    diary = dict.fromkeys(TIMELINE[1:], "427")
    for day in TIMELINE:
        told = "".join(
            f"{_interval(held) if day == DAYS else '':>{width}}"
            for held, width in zip(month.forecasts, (20, 21), strict=True)
        )
        print(f"  {day:>3}{month.totals[day]:>12,}{diary.get(day, '665'):>25}{told}".rstrip())
    for held in month.forecasts:
        print(
            f"\n  made on day {held.made_on}: {held.expected:,} expected for day 30, {held.came:,} came "
            f"({held.error_percent:+.1f} %); the diary's arithmetic on that day: {held.diary:,} "
            f"({held.diary_error_percent:+.1f} %)",
            end="",
        )
    print("\n")


def _interval(held: Held) -> str:
    return f"{held.low:,} to {held.high:,}"


def _print_mixes(months: list[Month], results: list[Accuracy]) -> None:
    print(f"{len(months)} random months: the forecasts for day 30, and how far off they were\n")
    print(
        "  seed   keys then   of day 7: low  expected   high   error   of day 14: low  expected   high   error   diary"
    )
    for one in months:
        first, second = one.forecasts
        print(
            f"  {one.mix.seed:>4}{second.came:>12,}{first.low:>16,}{first.expected:>10,}{first.high:>7,}"
            f"{first.error_percent:>+7.1f}%{second.low:>16,}{second.expected:>10,}{second.high:>7,}"
            f"{second.error_percent:>+7.1f}%{second.diary_error_percent:>+7.1f}%"
        )
    print()
    for result in results:
        print(
            f"  made on day {result.made_on:>2}: off by {result.median_percent} % in the median, "
            f"{result.worst_percent} % at worst; {result.within} of {result.mixes} within the interval. "
            f"The diary's arithmetic on that day: {result.diary_median_percent} % and {result.diary_worst_percent} %"
        )
    verdict = "met" if _met(results[-1]) else "MISSED"
    limits = f"{MEDIAN_LIMIT_PERCENT} % in the median, {WORST_LIMIT_PERCENT} % at worst"
    print(f"\n  limits for day {FORECAST_ON[-1]}: {limits}: {verdict}")
