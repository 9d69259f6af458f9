"""Gates: no operation may take so much longer than the bare driver does (`operations.py`), on either database.

The limits are wider than the targets of `bench.targets`: on a loaded machine they are passed only when the code got
slower. Each gate's figures are in pytest-benchmark's `extra_info` (`python -m pytest bench --benchmark-json FILE`).
`-m quick` chooses those that CI runs.
"""

from dataclasses import asdict
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.distance import RECONNECT_BUDGET_MS, measure
from bench.gates.operations import OPERATIONS, OTHER_BURSTS, QUICK, Compared, Operation

FAR_MS = 100.0
"""A round trip to a database on another continent."""


def gates(operations: tuple[Operation, ...]) -> list[object]:
    """The operations as parameters; those that CI runs are marked."""
    return [pytest.param(one, id=one.name, marks=[pytest.mark.quick] if one in QUICK else []) for one in operations]


def compared(benchmark: BenchmarkFixture, operation: Operation, url: str) -> Compared:
    """Compares once, and puts the figures into the benchmark's report."""
    found: Compared = benchmark.pedantic(operation.compare, [url], rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= asdict(found)
    print(f"store {found.store_ms:.2f} ms, bare driver {found.driver_ms:.2f} ms: {found.ratio:.2f} times")
    return found


@pytest.mark.parametrize("operation", gates((*OPERATIONS, *OTHER_BURSTS)))
def test_postgres(benchmark: BenchmarkFixture, migrated_postgres_url: str, operation: Operation) -> None:
    assert compared(benchmark, operation, migrated_postgres_url).ratio <= operation.limit


@pytest.mark.parametrize("operation", gates(OPERATIONS))
def test_sqlite(benchmark: BenchmarkFixture, tmp_path: Path, operation: Operation) -> None:
    assert compared(benchmark, operation, f"sqlite:///{tmp_path / 'k.db'}").ratio <= operation.sqlite_limit


@pytest.mark.quick
def test_a_reconnect_far_from_the_database_keeps_to_the_diarys_budget(
    benchmark: BenchmarkFixture, admin_url: str
) -> None:
    (far,) = benchmark.pedantic(measure, [admin_url, [FAR_MS], 3, lambda *_: None], rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= asdict(far)
    assert far.reconnect.round_trips == 2
    assert far.reconnect.ms <= RECONNECT_BUDGET_MS
