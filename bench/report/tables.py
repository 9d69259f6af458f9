"""Writes the figures of `bench.targets` into README.md and docs/performance.md, so that no number is copied by hand.

A block between `<!-- figures: NAME -->` and `<!-- /figures -->` is made from docs/figures/targets.json, or for the
bot's seat from docs/figures/seat.json.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.command import errors_in_one_line, read_json
from bench.scale.tables import markdown_table
from bench.seat import tables as seat_tables
from bench.seat.figures import Seat
from bench.targets import FIGURES, Run, with_seat
from keystore.errors import KeystoreError
from rig.paths import PROJECT

JSON, SEAT_JSON = FIGURES / "targets.json", FIGURES / "seat.json"
DOCUMENTS = (PROJECT / "README.md", PROJECT / "docs" / "performance.md")

DATABASES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
"""The names of the databases by the scheme of their address."""

_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
_VERDICTS = {True: "yes", False: "**no**", None: "not measured"}


def rewritten(text: str, run: Run) -> str:
    """The text with new contents in all its blocks. Raises KeystoreError for a block of another name."""

    def block(match: re.Match[str]) -> str:
        if match[2] not in BLOCKS:
            raise KeystoreError(f"there are no figures named {match[2]!r}; the names are {', '.join(BLOCKS)}")
        return f"{match[1]}{BLOCKS[match[2]](run)}\n{match[3]}"

    return _BLOCK.sub(block, text)


def committed(json: Path = JSON, seat_json: Path = SEAT_JSON) -> Run:
    """The figures that the documents show. Raises KeystoreError."""
    seat = read_json(seat_json, Seat, "bench.seat") if seat_json.exists() else None
    return with_seat(read_json(json, Run, "bench.targets"), seat)


def _machine(taken: Run | Seat) -> str:
    machine = taken.machine
    node = f", Node {machine.node}" if machine.node else ""
    return (
        f"Taken on {taken.taken_at.date()} at commit {taken.commit}: {machine.cores} cores of {machine.cpu}, "
        f"{machine.memory_gb:g} GB, {machine.system}; Python {machine.python}, PostgreSQL {machine.postgres}, "
        f"SQLite {machine.sqlite}{node}."
    )


def _targets(run: Run) -> str:
    rows = []
    for target in run.targets:
        verdict = _VERDICTS[target.met] + (f" ({target.note})" if target.note else "")
        rows.append((target.what, target.target, target.shown, verdict))
    return markdown_table(("measurement", "target", "measured", "met"), rows)


def _compared(run: Run) -> str:
    rows = []
    for result in sorted(run.figures.compared, key=lambda result: result.backend):
        times = f"{result.store_ms:,.2f} ms", f"{result.driver_ms:,.2f} ms", f"{result.ratio:.2f}"
        rows.append((DATABASES[result.backend], result.operation, *times))
    return markdown_table(("database", "operation", "store", "driver alone", "ratio"), rows)


def _distance(run: Run) -> str:
    rows = [(f"{distance.round_trip_ms:g} ms", *map(str, distance.acts.values())) for distance in run.figures.distance]
    return markdown_table(("round-trip time", "load", "reconnect", "load of the legacy adapter"), rows)


def _peers(run: Run) -> str:
    peers = run.figures.peers
    if peers is None:
        return "Not measured: no Node was there."

    rows = [
        (
            name,
            f"{act.store_ms:,.2f} ms",
            f"{act.diary_ms:,.1f} ms, {act.legacy_ratio:.1f} ×",
            f"{act.files_ms:,.1f} ms, {act.files_ratio:.1f} ×",
            f"{act.json_ms:,.1f} ms",
        )
        for name, act in peers.acts.items()
    ]
    return markdown_table(("", "store", "legacy adapter", "`useMultiFileAuthState`", "Baileys' JSON alone"), rows)


def _seat(name: str, run: Run) -> str:
    seat = run.figures.seat
    return seat_tables.tables(seat)[name] if seat else "Not measured yet."


def _seat_machine(run: Run) -> str:
    seat = run.figures.seat
    if seat is None:
        return "Not measured yet."
    absent = "".join(f" Not measured: {name} ({reason})." for name, reason in seat.unmeasured.items())
    return f"{_machine(seat)} Baileys {seat.baileys}, pg {seat.pg}; medians of {seat.rounds} rounds.{absent}"


BLOCKS: dict[str, Callable[[Run], str]] = {
    "machine": _machine,
    "targets": _targets,
    "compared": _compared,
    "distance": _distance,
    "peers": _peers,
    **{name: partial(_seat, name) for name in seat_tables.NAMES},
    "seat_machine": _seat_machine,
}


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Rewrite the documents; return 1 if a file can't be read."""
    parser = argparse.ArgumentParser("python -m bench.report.tables", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", default=JSON, help="the JSON of bench.targets")
    parser.add_argument("--seat", type=Path, metavar="FILE", default=SEAT_JSON, help="the JSON of bench.seat")
    options = parser.parse_args(args)
    run = committed(options.json, options.seat)
    texts = {path: rewritten(path.read_text(encoding="utf-8"), run) for path in DOCUMENTS}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
