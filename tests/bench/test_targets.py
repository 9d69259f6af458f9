"""The table of targets: what is held to what, and what counts as a miss."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.report import tables
from bench.targets import FIGURES, Figures, Target, document, table, targets

ACT = {"store_ms": 1.0, "diary_ms": 10.0, "files_ms": 20.0, "json_ms": 0.5}
MACHINE = {
    "cpu": "a",
    "cores": 2,
    "memory_gb": 24.0,
    "system": "Linux",
    "python": "3.11",
    "postgres": "18.0",
    "sqlite": "3.40",
    "node": None,
}


def compared(backend: str, operation: str) -> Figures:
    return {"backend": backend, "operation": operation, "store_ms": 1.1, "driver_ms": 1.0, "ratio": 1.1}


def distant(round_trip_ms: float) -> Figures:
    return {
        "round_trip_ms": round_trip_ms,
        "load": {"ms": round_trip_ms + 4.5, "round_trips": 1},
        "reconnect": {"ms": 2 * round_trip_ms + 10.5, "round_trips": 2},
        "diary_load": {"ms": 10 * round_trip_ms + 17, "round_trips": 10},
    }


def sized(companies: int, p50_ms: float) -> Figures:
    return {"companies": companies, "partitions": 0, "loads_before": {"load": {"p50_ms": p50_ms}}}


@pytest.fixture
def figures() -> Figures:
    """Figures that keep to every target."""
    return {
        "compared": [
            compared(backend, operation)
            for backend in ("postgresql", "sqlite")
            for operation in ("load", "burst 250", "burst 812")
        ],
        "distance": [distant(ms) for ms in (0, 20, 50, 100)],
        "peers": {"node": "20", **{act: dict(ACT) for act in ("load", "burst_250", "burst_812")}},
        "storms": {
            "reconnect_storm": {"ratio": 0.9, "store_per_s": 300.0},
            "restart": {"accounts": 90, "took_s": 0.4},
            "steady": {"companies": 1000, "connections": 8, "pool_timeouts": 0},
        },
        "rewrites": {"heap_only_percent": 99.5, "pages_before": 40.0, "pages_after": 41.0},
        "sweeping": {"p99_ratio": 1.2, "get_p99_ms_during": 2.0, "ratio": 0.8, "keys_per_s": 100_000},
        "memory": {"largest_mb": 82.0, "all_mb": 82.0},
        "scale": {"sizes": [sized(10, 1.0), sized(10_000, 1.2)]},
    }


def missed(figures: Figures) -> set[str]:
    return {one.name for one in targets(figures) if not one.met}


def test_all_are_met_by_figures_that_keep_to_them(figures: Figures) -> None:
    assert missed(figures) == set()
    assert len(targets(figures)) == len({one.name for one in targets(figures)}) == 19


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("compared", 0, "ratio"), 2.01, "load"),
        (("compared", 1, "ratio"), 1.31, "burst_250"),
        (("compared", 2, "ratio"), 1.31, "burst_812"),
        (("compared", 3, "ratio"), 2.01, "sqlite_load"),
        (("compared", 4, "ratio"), 2.01, "sqlite_burst"),
        (("peers", "load", "diary_ms"), 7.9, "load_peers"),
        (("peers", "burst_250", "diary_ms"), 1.7, "burst_250_peers"),
        (("peers", "burst_812", "diary_ms"), 1.7, "burst_812_peers"),
        (("distance", 3, "load", "ms"), 115.1, "load_far"),
        (("distance", 3, "load", "round_trips"), 2, "load_far"),
        (("distance", 3, "reconnect", "ms"), 230.1, "reconnect_far"),
        (("storms", "reconnect_storm", "ratio"), 0.59, "reconnect_storm"),
        (("storms", "restart", "took_s"), 5.1, "restart"),
        (("storms", "steady", "connections"), 17, "steady"),
        (("storms", "steady", "pool_timeouts"), 1, "steady"),
        (("rewrites", "heap_only_percent"), 98.9, "heap_only"),
        (("rewrites", "pages_after"), 42.1, "pages"),
        (("sweeping", "p99_ratio"), 1.51, "gets_during_sweep"),
        (("sweeping", "ratio"), 0.69, "sweep"),
        (("memory", "largest_mb"), 90.1, "memory"),
        (("memory", "all_mb"), 160.1, "memory"),
        (("scale", "sizes", 1, "loads_before", "load", "p50_ms"), 1.31, "scale"),
    ],
)
def test_what_is_over_its_limit_is_a_miss(figures: Figures, path: tuple[Any, ...], value: float, name: str) -> None:
    changed: Any = copy.deepcopy(figures)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert missed(changed) == {name}


def test_what_was_not_measured_is_no_miss_and_says_why(figures: Figures) -> None:
    found = {one.name: one for one in targets({**figures, "peers": None, "scale": None})}
    unmeasured = {name for name, one in found.items() if one.met is None}
    assert unmeasured == {"load_peers", "burst_250_peers", "burst_812_peers", "scale"}
    assert all(found[name].note for name in unmeasured)


def test_what_gathering_gives_is_told_beside_a_miss(figures: Figures) -> None:
    sizes = [sized(10, 1.0), sized(10_000, 1.7)]
    for size, p50_ms in zip(sizes, (0.8, 0.9), strict=True):
        size["gathered"] = {"loads": {"load": {"p50_ms": p50_ms}}}
    (found,) = [one for one in targets({**figures, "scale": {"sizes": sizes}}) if one.name == "scale"]
    assert (found.met, found.measured) == (False, 1.7)
    assert "1.12 × once gathered" in found.note


def test_the_table_says_what_was_missed() -> None:
    text = table(
        [Target("a", "load", "≤ 2 × bare", 1.5, "1.50 ×", True), Target("b", "sweep", "x", 0.1, "0.10 ×", False)]
    )
    assert [line.split()[-1] for line in text.splitlines()[1:]] == ["pass", "MISS"]


def test_the_documents_say_what_the_figures_say() -> None:
    found = json.loads((FIGURES / "targets.json").read_text(encoding="utf-8"))
    for path in tables.DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert "<!-- figures: targets -->" in text
        assert tables.rewritten(text, found) == text, f"{path.name}: run `python -m bench.report.tables`"


def test_a_block_is_made_anew_and_the_rest_stays(figures: Figures, tmp_path: Path) -> None:
    found = document({**figures, "peers": None}, MACHINE, datetime(2026, 11, 25, tzinfo=UTC))
    block = "<!-- figures: {} -->\nold\n<!-- /figures -->\n"
    text = f"before\n{block.format('distance')}after\n{block.format('peers')}"
    made = tables.rewritten(text, found)
    assert made.startswith("before\n<!-- figures: distance -->\n| round-trip time |")
    assert "| 100 ms | 104.5 ms in 1 | 210.5 ms in 2 | 1,017.0 ms in 10 |" in made
    assert "old" not in made
    assert "\nafter\n" in made
    assert "no Node was there" in made
    assert tables.rewritten(made, found) == made


def test_a_file_that_is_no_such_json_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    for content in ("{", "[]", "{}"):
        file.write_text(content, encoding="utf-8")
        assert tables.main(["--json", str(file)]) == 1
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
