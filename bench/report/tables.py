"""Writes the figures of `bench.targets` into README.md and docs/performance.md: nobody copies a number by hand.

A block between `<!-- figures: NAME -->` and `<!-- /figures -->` is made anew from docs/figures/targets.json.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rig.paths import PROJECT

JSON = PROJECT / "docs" / "figures" / "targets.json"
DOCUMENTS = (PROJECT / "README.md", PROJECT / "docs" / "performance.md")

Document = dict[str, Any]
"""The JSON of `bench.targets`."""

_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
_VERDICTS = {True: "yes", False: "**no**", None: "not measured"}


def rewritten(text: str, document: Document) -> str:
    """The text with all its blocks made anew. Raises KeyError for a block that isn't known."""
    return _BLOCK.sub(lambda block: f"{block[1]}{BLOCKS[block[2]](document)}\n{block[3]}", text)


def _machine(document: Document) -> str:
    machine = document["machine"]
    node = f", Node {machine['node']}" if machine["node"] else ""
    return (
        f"Taken on {document['taken_at'][:10]} at commit {document['commit']}: {machine['cores']} cores of "
        f"{machine['cpu']}, {machine['memory_gb']:g} GB, {machine['system']}; Python {machine['python']}, PostgreSQL "
        f"{machine['postgres']}, SQLite {machine['sqlite']}{node}."
    )


def _targets(document: Document) -> str:
    return _table(
        ("what", "target", "measured", "met"),
        (
            (
                one["what"],
                one["target"],
                one["shown"],
                _VERDICTS[one["met"]] + (f" ({one['note']})" if one["note"] else ""),
            )
            for one in document["targets"]
        ),
    )


def _compared(document: Document) -> str:
    return _table(
        ("database", "operation", "store", "bare driver", "ratio"),
        (
            (
                "PostgreSQL" if one["backend"] == "postgresql" else "SQLite",
                one["operation"],
                f"{one['store_ms']:,.2f} ms",
                f"{one['driver_ms']:,.2f} ms",
                f"{one['ratio']:.2f}",
            )
            for one in sorted(document["figures"]["compared"], key=lambda one: str(one["backend"]))
        ),
    )


def _distance(document: Document) -> str:
    def told(took: dict[str, float]) -> str:
        return f"{took['ms']:,.1f} ms in {took['round_trips']}"

    return _table(
        ("round-trip time", "load", "reconnect", "load, as the diary did"),
        (
            (f"{one['round_trip_ms']:g} ms", told(one["load"]), told(one["reconnect"]), told(one["diary_load"]))
            for one in document["figures"]["distance"]
        ),
    )


def _peers(document: Document) -> str:
    peers = document["figures"]["peers"]
    if peers is None:
        return "Not measured: no Node was there."

    def row(what: str, act: dict[str, float]) -> tuple[str, ...]:
        ours = act["store_ms"]
        times = [f"{act[who]:,.1f} ms, {act[who] / ours:.1f} ×" for who in ("diary_ms", "files_ms")]
        return (what, f"{ours:,.2f} ms", *times, f"{act['json_ms']:,.1f} ms")

    return _table(
        ("", "store", "diary-shaped adapter", "`useMultiFileAuthState`", "Baileys' JSON alone"),
        [
            row(what, peers[name])
            for what, name in (("load", "load"), ("burst of 250", "burst_250"), ("burst of 812", "burst_812"))
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


BLOCKS: dict[str, Callable[[Document], str]] = {
    "machine": _machine,
    "targets": _targets,
    "compared": _compared,
    "distance": _distance,
    "peers": _peers,
}


def main(args: Sequence[str] | None = None) -> int:
    """Rewrites the documents; 1 when something can't be read."""
    parser = argparse.ArgumentParser("python -m bench.report.tables", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", default=JSON, help="the JSON of bench.targets")
    given = parser.parse_args(args)
    try:
        document = json.loads(given.json.read_text(encoding="utf-8"))
        made = {path: rewritten(path.read_text(encoding="utf-8"), document) for path in DOCUMENTS}
        for path, text in made.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except (ValueError, KeyError, TypeError) as error:
        print(f"error: {given.json} is no JSON of bench.targets: {type(error).__name__} {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
