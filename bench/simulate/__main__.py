"""A month in seconds: companies live it through the real store, policy and sweeper, and forecasts are checked by it.

`python -m bench.simulate` lives the month of the original operator's demo data, from its 665 keys, and prints its
timeline. Then it lives random months of different traffic, and compares the forecasts of day 7 and 14 with the keys of
day 30. A clock of its own drives everything, so the same seeds give the same months.

To see the status page after a month of traffic, live the month of the demo data up to now in a new database:
  python -m bench.simulate --into sqlite:///demo.db
  python run.py --database-file demo.db
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from bench.command import Command, Outcome, in_range
from bench.limits import VERDICTS
from bench.simulate.month import (
    DAY_0,
    DAYS,
    FORECAST_ON,
    MEDIAN_LIMIT,
    WORST_LIMIT,
    Accuracy,
    Clock,
    Month,
    accuracy,
    month,
)
from bench.simulate.traffic import DEMO_LIKE, Mix, random_mix
from keystore import KeystoreError, open_store
from keystore.ttl import PRESETS, Policy
from monitor.running.progress import progress_bar

TIMELINE = (0, 7, 14, 30)

LEGACY_PROJECTION = {0: "665", **dict.fromkeys(TIMELINE[1:], "427")}
"""The projection that the original operator made on day 0 for the days of the timeline."""


class Simulation(Struct, frozen=True):
    """The month of the demo data (`diary`), the random months, and the accuracy of their forecasts."""

    diary: Month
    mixes: tuple[Month, ...]
    accuracy: tuple[Accuracy, ...]


def main(args: Sequence[str] | None = None) -> int:
    """Simulate and print; return 1 if the forecasts miss their limits."""
    database = "an empty PostgreSQL database, for the month of the demo data alone"
    command = Command("bench.simulate", __doc__, url=database)
    into = "live the month of the demo data up to now in this empty database, and nothing else"
    command.add_argument("--into", metavar="ADDRESS", help=into)
    command.add_number("--mixes", 20, "number of random months", least=0)
    command.add_argument("--first-seed", type=int, default=1, help="seed of the first random month; others follow (1)")
    regularity = "regularity of all reconnects, from 0 (at random) to 1 (at equal intervals)"
    command.add_argument("--regularity", type=in_range(float, 0, 1), metavar="R", help=regularity)
    command.add_argument("--policy", choices=sorted(PRESETS), default="diary", help="lifetimes of the keys (diary)")
    return command.run(args, _simulate)


def _simulate(options: argparse.Namespace) -> Outcome:
    policy = PRESETS[options.policy]
    with tempfile.TemporaryDirectory() as folder:
        url = options.into or options.url or f"sqlite:///{folder}/demo.db"
        began = datetime.now(UTC) - timedelta(days=DAYS) if options.into else DAY_0
        demo = _month_on(url, DEMO_LIKE, policy, "month of the demo data", from_demo=True, began=began)
        print("\n".join(_timeline(demo)))
        months = []
        for number in range(0 if options.into or options.url else options.mixes):
            mix = random_mix(options.first_seed + number)
            if options.regularity is not None:
                mix = replace(mix, regularity=options.regularity)
            label = f"mix {number + 1} of {options.mixes}"
            months.append(_month_on(f"sqlite:///{folder}/{mix.seed}.db", mix, policy, label, from_demo=False))
    results = tuple(accuracy(months, day) for day in FORECAST_ON) if months else ()
    met = all(result.met for result in results if result.made_on == FORECAST_ON[-1])
    text = "\n".join(_random_months(months, results)) if months else ""
    return Outcome(text, Simulation(demo, tuple(months), results), met)


def _month_on(url: str, mix: Mix, policy: Policy, label: str, *, from_demo: bool, began: datetime = DAY_0) -> Month:
    clock = Clock()
    with closing(open_store(url, clock=clock, policy=policy)) as store, progress_bar(label) as progress:
        if store.companies():
            raise KeystoreError(f"{store.database} isn't empty, and the month would sweep it; name an empty one")
        return month(store, clock, mix, from_demo=from_demo, progress=progress, began=began)


def _timeline(month: Month) -> Iterator[str]:
    yield f"The month of the demo data: {month.messages:,} messages, {month.swept:,} keys swept\n"
    yield "  day   simulated   legacy projection   forecast of day 7   forecast of day 14"
    for day in TIMELINE:
        intervals = [f"{forecast.low:,} to {forecast.high:,}" if day == DAYS else "" for forecast in month.forecasts]
        row = day, month.totals[day], LEGACY_PROJECTION[day], *intervals
        yield "  {:>3}{:>12,}{:>20}{:>20}{:>21}".format(*row).rstrip()
    for forecast in month.forecasts:
        yield (
            f"\n  made on day {forecast.made_on}: {forecast.expected:,} expected for day 30, {forecast.came:,} came "
            f"({forecast.error_percent:+.1f} %); legacy projection of that day: {forecast.diary:,} "
            f"({forecast.diary_error_percent:+.1f} %)"
        )


def _random_months(months: Sequence[Month], results: Sequence[Accuracy]) -> Iterator[str]:
    yield f"\n{len(months)} random months: the forecasts for day 30 and their errors\n"
    columns = "low  expected   high   error"
    yield f"  seed   keys then   of day 7: {columns}   of day 14: {columns}  legacy"
    for lived in months:
        first, second = lived.forecasts
        yield (
            f"  {lived.mix.seed:>4}{second.came:>12,}{first.low:>16,}{first.expected:>10,}{first.high:>7,}"
            f"{first.error_percent:>+7.1f}%{second.low:>16,}{second.expected:>10,}{second.high:>7,}"
            f"{second.error_percent:>+7.1f}%{second.diary_error_percent:>+7.1f}%"
        )
    yield ""
    for result in results:
        yield (
            f"  made on day {result.made_on:>2}: off by {result.median_percent} % in the median, "
            f"{result.worst_percent} % at worst; {result.within} of {result.mixes} within the interval. "
            f"Legacy projection of that day: {result.diary_median_percent} % and {result.diary_worst_percent} %"
        )
    yield f"\n  limits for day {FORECAST_ON[-1]}: {MEDIAN_LIMIT}, {WORST_LIMIT}: {VERDICTS[results[-1].met]}"


if __name__ == "__main__":
    sys.exit(main())
