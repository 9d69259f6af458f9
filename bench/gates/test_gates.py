"""Gates: no operation may take more than its multiple of the driver's time (`operations.py`), on either database.

The limits are wider than the targets of `bench.targets`, so that on a loaded machine only slower code exceeds them.
Each gate's figures are in pytest-benchmark's `extra_info` (`python -m pytest bench --benchmark-json FILE`).
`-m quick` chooses those that CI runs.
"""

from pathlib import Path

import pytest
from msgspec.structs import asdict
from pytest_benchmark.fixture import BenchmarkFixture

from bench.distance import RECONNECT_BUDGET, measure
from bench.gates.operations import OPERATIONS, OTHER_BURSTS, QUICK, Compared, Operation
from rig.fixtures.postgres import PostgresSite

FAR_MS = 100.0
"""The round-trip time to a database on another continent."""


def gates(operations: tuple[Operation, ...]) -> list[object]:
    """The operations as parameters; those that CI runs are marked `quick`."""
    return [
        pytest.param(operation, id=operation.name, marks=[pytest.mark.quick] if operation in QUICK else [])
        for operation in operations
    ]


def compared(benchmark: BenchmarkFixture, operation: Operation, url: str) -> Compared:
    """Compare once, and put the figures into the benchmark's report."""
    result: Compared = benchmark.pedantic(operation.compare, [url], rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= asdict(result)
    print(f"store {result.store_ms:.2f} ms, driver alone {result.driver_ms:.2f} ms: {result.ratio:.2f} times")
    return result


@pytest.mark.parametrize("operation", gates((*OPERATIONS, *OTHER_BURSTS)))
def test_postgres(benchmark: BenchmarkFixture, migrated_postgres_url: str, operation: Operation) -> None:
    assert compared(benchmark, operation, migrated_postgres_url).ratio <= operation.limit


@pytest.mark.parametrize("operation", gates(OPERATIONS))
def test_sqlite(benchmark: BenchmarkFixture, tmp_path: Path, operation: Operation) -> None:
    assert compared(benchmark, operation, f"sqlite:///{tmp_path / 'k.db'}").ratio <= operation.sqlite_limit


@pytest.mark.quick
def test_a_reconnect_far_from_the_database_keeps_to_the_budget(
    benchmark: BenchmarkFixture, postgres_site: PostgresSite
) -> None:
    (far,) = benchmark.pedantic(measure, [postgres_site.admin_url, [FAR_MS], 3], rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= asdict(far)
    assert far.reconnect.round_trips == 2
    assert RECONNECT_BUDGET.allows(far.reconnect.ms)
