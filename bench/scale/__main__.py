"""The effect of a growing number of companies on one Postgres server: 10, 1,000 and 10,000 of 721 keys each.

Fills a database for each, its keys in the order in which they arrive, and rewrites sessions as traffic does. Measures
loads, gets and sets, the pages that a load touches, sizes, census, a sweep, a vacuum, and reads during the last two.
The databases stay, with their figures, so that the same command continues after a kill.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from bench.command import SERVER, Command, Outcome, in_range, postgres_address, read_json
from bench.limits import missed
from bench.scale.databases import Server, Size, drop, own_server
from bench.scale.figures import Scale
from bench.scale.measure import MANY, measure
from bench.scale.steps import Effort
from bench.scale.tables import split_at_markers, tables, targets, with_tables
from monitor.running.progress import progress_bar

EPILOG = """
It starts a Postgres of its own, with a quarter of the machine's memory (8 GB at most) as shared_buffers, unless --url
names a server. To resume a run, give its command again; for example:
  python -m bench.scale --home /srv/bench --json docs/figures/scale.json --docs docs/scaling.md
10,000 companies take about 10 GB of disk, 8 GB of write-ahead log, and twenty minutes.
Exits with 1 when a target is missed.
"""

COMPANIES = (10, 1_000, 10_000)
THOROUGH, QUICK = Effort(2_000, 3.0), Effort(50, 0.2)


def partition_count(text: str) -> int:
    """A number of hash partitions, or 0 for none, for argparse."""
    return 0 if text == "0" else in_range(int, 2, 1_000)(text)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a target is missed or the server can't be used."""
    command = Command("bench.scale", __doc__, EPILOG)
    where = command.add_mutually_exclusive_group()
    where.add_argument("--url", type=postgres_address, help=SERVER)
    home = "a folder for the data of our own server, which stay (a temporary one)"
    where.add_argument("--home", type=Path, help=home)
    companies, sizes = in_range(int, 1), "(10 1000 10000)"
    command.add_argument("--companies", type=companies, nargs="+", default=COMPANIES, metavar="N", help=sizes)
    partitions = "measure with N hash partitions too"
    command.add_argument("--partitions", type=partition_count, default=0, metavar="N", help=partitions)
    command.add_argument("--quick", action="store_true", help="time everything fewer times")
    command.add_argument("--drop", action="store_true", help="drop these databases, and end")
    figures = "read the figures of an earlier run, measure nothing"
    command.add_argument("--figures", type=Path, metavar="FILE", help=figures)
    command.add_argument("--docs", type=Path, metavar="FILE", help="write the tables between that file's scale markers")
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    sizes = [Size(companies) for companies in options.companies]
    if options.partitions:
        sizes += [Size(companies, options.partitions) for companies in options.companies if companies < MANY]
    if options.docs:
        split_at_markers(options.docs.read_text(encoding="utf-8"))  # A document without them is found before the work.
    if options.figures:
        scale = read_json(options.figures, Scale, "bench.scale")
    else:
        with nullcontext(Server(options.url)) if options.url else own_server(options.home) as server:
            if options.drop:
                for size in sizes:
                    drop(server, size)
                return Outcome("", None)
            effort = QUICK if options.quick else THOROUGH
            scale = measure(server, sizes, options.partitions, effort, progress_bar)
    if options.docs:
        text = options.docs.read_text(encoding="utf-8")
        options.docs.write_text(with_tables(text, scale), encoding="utf-8")
    return Outcome(tables(scale), scale, not missed(targets(scale)))


if __name__ == "__main__":
    sys.exit(main())
