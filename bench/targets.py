"""Every target of the store, measured in one run on one machine.

It starts a PostgreSQL of its own and takes about seven minutes on two cores. Two parts are runs of their own, whose
figures are read from their files: the 10,000 companies (`python -m bench.scale`), and the bot's seat (`python -m
bench.seat`).
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from bench import distance, idle
from bench.command import Command, Outcome, read_json
from bench.distance import Distance
from bench.gates import sealed, sweeping
from bench.gates.operations import BOT_LIMITS, OPERATIONS, Compared
from bench.gates.sealed import Sealed
from bench.gates.sweeping import Sweeping
from bench.idle import Idle
from bench.limits import Limit, Target, as_text, missed
from bench.machine import Machine, commit, this_machine
from bench.measuring import Progress
from bench.peers import measure as peers
from bench.peers.measure import Peers
from bench.scale import pages
from bench.scale.figures import Scale
from bench.scale.pages import Rewrites
from bench.scale.tables import load_target
from bench.seat import figures as seats
from bench.seat.figures import Seat
from bench.storms import measure as storms
from bench.storms.measure import Storms
from keystore.opening import open_store
from monitor.running.progress import progress_bar
from rig.paths import PROJECT
from rig.postgres_server import database_on, own_postgres

EPILOG = """
Exits with 1 when a target is missed. The figures in README.md and docs/performance.md are made from its JSON:
  python -m bench.targets --json docs/figures/targets.json && python -m bench.report.tables
  python -m bench.report docs/figures/targets.json --out report.html
"""

FIGURES = PROJECT / "docs" / "figures"

SERVER = {"shared_buffers": "512MB"}
"""The settings of our own PostgreSQL: the measured tables fit into memory, as they should in production."""

SQLITE_LIMIT = Limit(2, "× sqlite3 alone")
TITLES = {
    "load": "load of an account",
    "get 1": "get of one key",
    "set 1": "set of one key, without the wait for the disk",
    "burst 250": "burst of 250 pre-keys",
    "burst 812": "burst of 812 pre-keys",
}

COMPARED_TARGETS = (
    *(
        (operation.name.replace(" ", "_"), TITLES[operation.name], "postgresql", operation.name, limit)
        for operation, limit in BOT_LIMITS
    ),
    ("sqlite_load", "load of an account, SQLite", "sqlite", "load", SQLITE_LIMIT),
    ("sqlite_burst", "burst of 250 pre-keys, SQLite", "sqlite", "burst 250", SQLITE_LIMIT),
)
"""The targets against the drivers alone: name, what is measured, database, operation, limit."""

T = TypeVar("T")


class Figures(Struct, frozen=True):
    """The results by section; a section that was not measured is None or empty."""

    compared: tuple[Compared, ...] = ()
    distance: tuple[Distance, ...] = ()
    peers: Peers | None = None
    storms: Storms | None = None
    rewrites: Rewrites | None = None
    sweeping: Sweeping | None = None
    sealed: Sealed | None = None
    memory: Idle | None = None
    scale: Scale | None = None
    seat: Seat | None = None


class Run(Struct, frozen=True):
    """One run of `bench.targets`, as its JSON has it."""

    taken_at: datetime
    commit: str | None
    machine: Machine
    targets: tuple[Target, ...]
    figures: Figures


def with_seat(run: Run, seat: Seat | None) -> Run:
    """The run with these figures of the bot's seat, and with their targets, in place of those that it has."""
    others = [target for target in run.targets if not target.name.startswith(seats.PREFIX)]
    return replace(run, figures=replace(run.figures, seat=seat), targets=(*others, *seats.targets(seat)))


def targets(figures: Figures) -> Iterator[Target]:
    """The rows of the table of targets; sections without figures have none, except for those of runs of their own."""
    compared = {(result.backend, result.operation): result for result in figures.compared}
    for name, what, backend, operation, limit in COMPARED_TARGETS:
        if (backend, operation) in compared:
            yield compared[backend, operation].target(name, what, limit)
    yield from peers.targets(figures.peers)
    if figures.distance:
        yield from max(figures.distance, key=lambda distance: distance.round_trip_ms).targets
    if figures.storms:
        yield from figures.storms.targets
    if figures.rewrites:
        yield from figures.rewrites.targets
    yield load_target(figures.scale)
    if figures.sweeping:
        yield from figures.sweeping.targets
    if figures.sealed:
        yield from figures.sealed.targets
    if figures.memory:
        yield from figures.memory.targets
    yield from seats.targets(figures.seat)


def measure(scale: Scale | None, seat: Seat | None, progress: Progress) -> Run:
    """Measure everything but `scale` and `seat`, which come from runs of their own. Raises KeystoreError."""
    results: dict[str, Any] = {}
    with own_postgres(SERVER) as server:
        for done, (name, section) in enumerate(SECTIONS.items()):
            progress(done, len(SECTIONS))
            results[name] = section(server)
        figures = Figures(**results, scale=scale, seat=seat)
        machine = this_machine(server, figures.peers.node if figures.peers else None)
    return Run(datetime.now(UTC).replace(microsecond=0), commit(), machine, tuple(targets(figures)), figures)


def _on_a_database(server: str, section: Callable[[str], T]) -> T:
    with database_on(server, "bench_targets") as url:
        return section(url)


def _idle(url: str) -> Idle:
    open_store(url).close()  # This makes the tables that `run.py` expects.
    return idle.measure(url)


def _compared(server: str) -> Iterator[Compared]:
    for operation in OPERATIONS:
        yield _on_a_database(server, operation.compare)
        with tempfile.TemporaryDirectory(prefix="keystore-targets-") as folder:
            yield operation.compare(f"sqlite:///{folder}/keystore.db")


SECTIONS: dict[str, Callable[[str], object]] = {
    "compared": lambda server: tuple(_compared(server)),
    "distance": lambda server: tuple(distance.measure(server)),
    "peers": peers.measure,
    "storms": storms.measure,
    "rewrites": lambda server: _on_a_database(server, pages.rewrites),
    "sweeping": lambda server: _on_a_database(server, sweeping.measure),
    "sealed": sealed.measure,
    "memory": lambda server: _on_a_database(server, _idle),
}
"""The measurements on our own server, in their order; the names are the fields of `Figures`."""


def main(args: Sequence[str] | None = None) -> int:
    """Measure everything; return 1 if a target is missed or can't be measured."""
    command = Command("bench.targets", __doc__, EPILOG)
    for name in ("scale", "seat"):
        default, what = FIGURES / f"{name}.json", f"the figures of bench.{name}"
        command.add_argument(f"--{name}", type=Path, metavar="FILE", default=default, help=what)
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    scale = read_json(options.scale, Scale, "bench.scale") if options.scale.exists() else None
    seat = read_json(options.seat, Seat, "bench.seat") if options.seat.exists() else None
    with progress_bar("targets") as progress:
        run = measure(scale, seat, progress)
    return Outcome(as_text(run.targets), run, not missed(run.targets))


if __name__ == "__main__":
    sys.exit(main())
