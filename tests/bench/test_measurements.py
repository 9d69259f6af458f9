"""Measurements that otherwise only long runs use: each runs once and small, with plausible figures."""

from pathlib import Path

import pytest
from msgspec.structs import asdict

from bench import idle
from bench.command import Main
from bench.distance import main as distance
from bench.gates import sealed, sweeping
from bench.gates.operations import COMPANIES, OPERATIONS, OTHER_BURSTS, Operation
from bench.http_api.__main__ import main as http_api
from bench.peers.__main__ import main as peers
from bench.pooled import main as pooled
from bench.pooled import measure as measure_pooled
from bench.pooled import targets as pooled_targets
from bench.scale.__main__ import main as scale
from bench.schema import main as schema
from bench.seat.__main__ import main as seat
from bench.seat.hops import main as hops
from bench.simulate.__main__ import main as simulate
from bench.storms.__main__ import main as storms
from bench.targets import main as targets
from keystore import KeystoreError
from rig.fixtures.postgres import PostgresSite
from rig.pgbouncer import pgbouncer_program
from rig.relay import free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("measurements")]


@pytest.fixture(autouse=True)
def _few_companies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep, backfill and count ten companies in place of sixty."""
    monkeypatch.setattr("bench.gates.operations.COMPANIES", COMPANIES[:10])


@pytest.mark.parametrize(
    "main", [distance, hops, http_api, peers, pooled, scale, schema, seat, simulate, storms, targets]
)
def test_the_help_of_a_measurement_fits_80_columns(
    main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    prose = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  python -m ")]
    assert [line for line in prose if len(line) > 80] == []


@pytest.mark.parametrize("operation", [*OPERATIONS, *OTHER_BURSTS], ids=lambda operation: operation.name)
def test_an_operation_is_compared_on_postgres(operation: Operation, migrated_postgres_url: str) -> None:
    result = operation.compare(migrated_postgres_url, rounds=1)
    assert (result.backend, result.operation) == ("postgresql", operation.name)
    assert min(result.store_ms, result.driver_ms, result.ratio) > 0


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_compared_on_sqlite(operation: Operation, tmp_path: Path) -> None:
    result = operation.compare(f"sqlite:///{tmp_path / 'k.db'}", rounds=1)
    assert (result.backend, result.operation) == ("sqlite", operation.name)
    assert min(result.store_ms, result.driver_ms, result.ratio) > 0


def test_gets_continue_during_a_sweep_in_another_process(postgres_url: str) -> None:
    rounds: list[tuple[int, int]] = []
    result = sweeping.measure(postgres_url, lambda done, total: rounds.append((done, total)), companies=5, rounds=2)
    assert rounds == [(0, 2), (1, 2)]
    assert result.companies == 5
    assert 0 < result.due_keys < 5 * 416
    assert result.gets_during > 0
    assert min(result.keys_per_s, result.bare_keys_per_s, result.get_p99_ms, result.get_p99_ms_during) > 0


def test_sealed_values_are_compared_with_plain_ones(postgres_site: PostgresSite) -> None:
    result = sealed.measure(postgres_site.admin_url, rounds=2)
    assert min(asdict(result).values()) > 0
    assert [target.name for target in result.targets] == ["sealed_load", "sealed_write"]


def test_an_idle_service_is_weighed(migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SETTLE_S", 0.0)
    result = idle.measure(migrated_postgres_url)
    assert result.processes == 2, "the service and its worker"
    assert 20 < result.largest_mb <= result.all_mb < 500


def test_a_failed_start_is_reported_without_the_address(
    postgres_site: PostgresSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_site.url("nowhere", password="wrong")
    with pytest.raises(KeystoreError, match=r"run\.py didn't start") as caught:
        idle.measure(url)
    assert "wrong" not in str(caught.value)


def test_an_unreachable_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert http_api(["--url", f"postgresql://bench:S3CRET@127.0.0.1:{free_port()}/postgres"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the server can't be used")
    assert error.count("\n") == 1
    assert "S3CRET" not in error


@pytest.mark.skipif(pgbouncer_program() is None, reason="no pgbouncer program on this machine")
def test_each_operation_of_a_bot_is_compared_with_and_without_a_pooler() -> None:
    results = measure_pooled(rounds=1)
    assert [(result.backend, result.operation) for result in results] == [
        (backend, operation)
        for operation in ("load", "get 1", "set 1", "burst 250", "burst 812")
        for backend in ("postgresql", "pgbouncer")
    ]
    assert all(target.measured for target in pooled_targets(results))
