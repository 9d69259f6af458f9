"""Writes the figures of `bench.targets` into README.md and docs/performance.md, so that no number is copied by hand.

A block between `<!-- figures: NAME -->` and `<!-- /figures -->` is made from docs/figures/targets.json.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.command import errors_in_one_line, read_json
from bench.scale.tables import markdown_table
from bench.targets import FIGURES, Run
from keystore.errors import KeystoreError
from rig.paths import PROJECT

JSON = FIGURES / "targets.json"
DOCUMENTS = (PROJECT / "README.md", PROJECT / "docs" / "performance.md")

DATABASES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
"""The names of the databases by the scheme of their address."""

HIGHLIGHTS = {
    "load of an account, against the legacy adapter": "reading an account, beside a bot's usual adapter",
    "burst of 250 pre-keys, against the legacy adapter": "writing 250 pre-keys, beside the same",
    "reconnect, database 100 ms away": "reading and writing, with the database 100 ms away",
    "90 accounts restart at once": "90 accounts that restart at once",
    "memory of an idle run.py, API on, one worker": "memory of the idle service",
}
"""The targets in README's table, and their names there."""

_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
_VERDICTS = {True: "yes", False: "**no**", None: "not measured"}


def rewritten(text: str, run: Run) -> str:
    """The text with new contents in all its blocks. Raises KeystoreError for a block of another name."""

    def block(match: re.Match[str]) -> str:
        if match[2] not in BLOCKS:
            raise KeystoreError(f"there are no figures named {match[2]!r}; the names are {', '.join(BLOCKS)}")
        return f"{match[1]}{BLOCKS[match[2]](run)}\n{match[3]}"

    return _BLOCK.sub(block, text)


def _machine(run: Run) -> str:
    machine = run.machine
    node = f", Node {machine.node}" if machine.node else ""
    return (
        f"Taken on {run.taken_at.date()} at commit {run.commit}: {machine.cores} cores of {machine.cpu}, "
        f"{machine.memory_gb:g} GB, {machine.system}; Python {machine.python}, PostgreSQL {machine.postgres}, "
        f"SQLite {machine.sqlite}{node}."
    )


def _targets(run: Run) -> str:
    rows = []
    for target in run.targets:
        verdict = _VERDICTS[target.met] + (f" ({target.note})" if target.note else "")
        rows.append((target.what, target.target, target.shown, verdict))
    return markdown_table(("measurement", "target", "measured", "met"), rows)


def _highlights(run: Run) -> str:
    targets = {target.what: target for target in run.targets}
    rows = [(name, targets[what].shown, targets[what].target) for what, name in HIGHLIGHTS.items()]
    return markdown_table(("", "measured", "target"), rows)


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


BLOCKS: dict[str, Callable[[Run], str]] = {
    "machine": _machine,
    "targets": _targets,
    "highlights": _highlights,
    "compared": _compared,
    "distance": _distance,
    "peers": _peers,
}


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Rewrite the documents; return 1 if a file can't be read."""
    parser = argparse.ArgumentParser("python -m bench.report.tables", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", default=JSON, help="the JSON of bench.targets")
    options = parser.parse_args(args)
    run = read_json(options.json, Run, "bench.targets")
    texts = {path: rewritten(path.read_text(encoding="utf-8"), run) for path in DOCUMENTS}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
