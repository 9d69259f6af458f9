"""The measurements that only long runs need: each runs, once and small, and what it says is so."""

from pathlib import Path

import pytest

from bench import idle
from bench.gates import sweeping
from bench.gates.operations import OPERATIONS, OTHER_BURSTS, Operation
from bench.http_api import run as http
from keystore import KeystoreError
from rig.fixtures.postgres import PostgresSite
from rig.relay import free_port


@pytest.mark.parametrize("operation", [*OPERATIONS, *OTHER_BURSTS], ids=lambda operation: operation.name)
def test_an_operation_is_compared_on_postgres(operation: Operation, migrated_postgres_url: str) -> None:
    found = operation.compare(migrated_postgres_url, rounds=1)
    assert (found.backend, found.operation) == ("postgresql", operation.name)
    assert min(found.store_ms, found.driver_ms, found.ratio) > 0


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_compared_on_sqlite(operation: Operation, tmp_path: Path) -> None:
    found = operation.compare(f"sqlite:///{tmp_path / 'k.db'}", rounds=1)
    assert (found.backend, found.operation) == ("sqlite", operation.name)
    assert min(found.store_ms, found.driver_ms, found.ratio) > 0


def test_gets_go_on_beside_a_sweep_in_another_process(postgres_url: str) -> None:
    rounds: list[tuple[int, int]] = []
    found = sweeping.measure(postgres_url, lambda done, total: rounds.append((done, total)), companies=5, rounds=2)
    assert rounds == [(0, 2), (1, 2)]
    assert found.companies == 5
    assert 0 < found.due_keys < 5 * 416
    assert found.gets_during > 0
    assert min(found.keys_per_s, found.bare_keys_per_s, found.get_p99_ms, found.get_p99_ms_during) > 0


def test_an_idle_service_is_weighed(migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SETTLE_S", 0.0)
    found = idle.measure(migrated_postgres_url)
    assert found.processes == 2, "the service and its worker"
    assert 20 < found.largest_mb <= found.all_mb < 500


def test_a_service_that_does_not_start_is_told_without_its_address(
    postgres_site: PostgresSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_site.url("nowhere", password="wrong")
    with pytest.raises(KeystoreError, match=r"run\.py didn't start") as caught:
        idle.measure(url)
    assert "wrong" not in str(caught.value)


def test_a_server_that_is_not_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert http.main(["--url", f"postgresql://bench:S3CRET@127.0.0.1:{free_port()}/postgres"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: the server can't be used")
    assert told.count("\n") == 1
    assert "S3CRET" not in told
