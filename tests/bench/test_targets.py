"""The table of targets: each measurement is judged by its limit, and the documents show the table."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.command import read_json, write_json
from bench.limits import Limit, Target, as_text
from bench.report import tables
from bench.targets import Figures, Run, targets
from keystore.errors import KeystoreError
from tests.bench.sample_figures import FIGURES, MACHINE, TAKEN_AT, scale, sized


def missed(figures: Figures) -> set[str]:
    """The names of the targets that were not met."""
    return {target.name for target in targets(figures) if not target.met}


def changed(value: Any, path: tuple[str | int, ...], number: float) -> Any:
    """A copy of a figure, or of a tuple of figures, with another number at the path."""
    if not path:
        return number
    step, *rest = path
    if isinstance(value, dict):
        return value | {step: changed(value[step], tuple(rest), number)}
    if isinstance(step, int):
        return (*value[:step], changed(value[step], tuple(rest), number), *value[step + 1 :])
    return replace(value, **{step: changed(getattr(value, step), tuple(rest), number)})


def test_figures_within_all_limits_meet_every_target() -> None:
    assert missed(FIGURES) == set()
    names = [target.name for target in targets(FIGURES)]
    assert len(names) == len(set(names)) == 37


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("compared", 0, "ratio"), 1.31, "load"),
        (("compared", 1, "ratio"), 1.26, "get_1"),
        (("compared", 2, "ratio"), 2.01, "set_1"),
        (("compared", 3, "ratio"), 1.01, "burst_250"),
        (("compared", 4, "ratio"), 1.01, "burst_812"),
        (("compared", 5, "ratio"), 2.01, "sqlite_load"),
        (("compared", 6, "ratio"), 2.01, "sqlite_burst"),
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
        (("rewrites", "pages_after"), 200.0, "pages"),
        (("sweeping", "p99_ratio"), 1.51, "gets_during_sweep"),
        (("sweeping", "keys_per_s"), 4_900.0, "sweep"),
        (("sealed", "load_ratio"), 1.61, "sealed_load"),
        (("sealed", "write_ratio"), 1.11, "sealed_write"),
        (("memory", "largest_mb"), 90.1, "memory"),
        (("memory", "all_mb"), 160.1, "memory"),
        (("scale", "sizes", 1, "gathered", "loads", "load", "p50_ms"), 1.31, "scale"),
        (("seat", "rows", "straight", "opened_ms"), 9.1, "seat_straight_connect"),
        (("seat", "rows", "redis_always", "connect_ms"), 18.9, "seat_straight_connect"),
        (("seat", "rows", "straight", "message", "p50_ms"), 0.41, "seat_straight_message"),
        (("seat", "rows", "straight_sealed", "opened_ms"), 14.5, "seat_sealed_connect"),
        (("seat", "rows", "straight_sealed", "message", "p50_ms"), 0.45, "seat_sealed_message"),
        (("seat", "rows", "straight", "burst_ms"), 3.3, "seat_straight_burst"),
        (("seat", "rows", "straight", "per_s", "16"), 7_100.0, "seat_straight_16"),
        (("seat", "rows", "straight", "per_s", "200"), 10_900.0, "seat_straight_200"),
        (("seat", "rows", "straight", "memory_kb"), 40.1, "seat_straight_memory"),
        (("seat", "rows", "http", "opened_ms"), 15.1, "seat_http_connect"),
        (("seat", "rows", "http", "message", "p50_ms"), 0.76, "seat_http_message"),
        (("seat", "rows", "http", "burst_ms"), 4.6, "seat_http_burst"),
        (("seat", "rows", "http", "per_s", "16"), 4_400.0, "seat_http_16"),
        (("seat", "rows", "http", "per_s", "200"), 6_500.0, "seat_http_200"),
        (("seat", "rows", "http", "memory_kb"), 40.1, "seat_http_memory"),
    ],
)
def test_a_measurement_beyond_its_limit_misses_its_target(path: tuple[str | int, ...], value: float, name: str) -> None:
    assert missed(changed(FIGURES, path, value)) == {name}


def test_a_limit_decides_and_prints_itself() -> None:
    at_most, at_least, none = Limit(5, "s"), Limit(0.6, "× psycopg alone", at_least=True), Limit(0, "time-outs")
    assert [str(limit) for limit in (at_most, at_least, none)] == ["≤ 5 s", "≥ 0.6 × psycopg alone", "no time-outs"]
    assert (at_most.allows(5), at_most.allows(5.1)) == (True, False)
    assert (at_least.allows(0.6), at_least.allows(0.59)) == (True, False)
    assert (none.allows(0), none.allows(1)) == (True, False)


def test_unmeasured_targets_are_not_missed_and_say_why() -> None:
    rows = {target.name: target for target in targets(replace(FIGURES, peers=None, scale=None, seat=None))}
    unmeasured = {name for name, target in rows.items() if target.met is None}
    seat = {name for name in rows if name.startswith("seat_")}
    assert unmeasured == {"load_peers", "burst_250_peers", "burst_812_peers", "scale", *seat}
    assert all(rows[name].note for name in unmeasured)


def test_the_load_of_scattered_keys_stands_beside_that_of_gathered_ones() -> None:
    figures = replace(FIGURES, scale=scale(sized(10, 1.0, 0.8), sized(10_000, 1.7, 0.9)))
    (row,) = [target for target in targets(figures) if target.name == "scale"]
    assert (row.met, row.measured) == (True, 1.125)
    assert "1.70 × (1.70 ms) as they came" in row.note


def test_the_table_shows_which_targets_are_missed() -> None:
    text = as_text(
        [Target("a", "load", "≤ 2 × bare", 1.5, "1.50 ×", True), Target("b", "sweep", "x", 0.1, "0.10 ×", False)]
    )
    assert [line.split()[-1] for line in text.splitlines()[1:]] == ["met", "MISSED"]


def test_figures_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    run = Run(TAKEN_AT, None, MACHINE, tuple(targets(FIGURES)), FIGURES)
    write_json(file, run)
    assert read_json(file, Run, "bench.targets") == run


def test_the_documents_show_the_committed_figures() -> None:
    run = tables.committed()
    for path in tables.DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert "<!-- figures: " in text
        assert tables.rewritten(text, run) == text, f"{path.name}: run `python -m bench.report.tables`"


def test_the_committed_targets_are_those_of_the_committed_figures() -> None:
    run = tables.committed()
    shown = [(target.name, target.what, target.target, target.shown, target.met, target.note) for target in run.targets]
    assert shown == [
        (target.name, target.what, target.target, target.shown, target.met, target.note)
        for target in targets(run.figures)
    ]


def test_a_block_is_replaced_and_the_rest_stays() -> None:
    run = Run(TAKEN_AT, None, MACHINE, (), replace(FIGURES, peers=None))
    block = "<!-- figures: {} -->\nold\n<!-- /figures -->\n"
    text = f"before\n{block.format('distance')}after\n{block.format('peers')}"
    made = tables.rewritten(text, run)
    assert made.startswith("before\n<!-- figures: distance -->\n| round-trip time |")
    assert "| 100 ms | 104.5 ms in 1 | 210.5 ms in 2 | 1,017.0 ms in 10 |" in made
    assert "old" not in made
    assert "\nafter\n" in made
    assert "no Node was there" in made
    assert tables.rewritten(made, run) == made
    with pytest.raises(KeystoreError, match="no figures named 'other'"):
        tables.rewritten(block.format("other"), run)


def test_another_json_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    for content in ("{", "[]", "{}"):
        file.write_text(content, encoding="utf-8")
        assert tables.main(["--json", str(file)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
