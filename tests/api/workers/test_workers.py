"""The config that a worker gets from run.py, its listening socket, and a store that can't be opened yet."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from api.workers.config import read_worker_config
from api.workers.supervisor import address, listen
from api.workers.worker import REOPEN_AFTER_S, LazyStore
from keystore import Store, open_store
from keystore.errors import InvalidInput, KeystoreError, LeaseLost, StoreUnavailable
from keystore.ttl import CAREFUL, parse_policy
from tests.api.service import serving_api, worker_config

pytestmark = pytest.mark.slow


def test_a_config_arrives_through_the_pipe_unchanged() -> None:
    config = worker_config("postgresql://bot:S3CRET@db/bots", tls_cert="c", tls_key="k", requests_per_s=0.5, socket=7)
    line = config.line()
    assert line.count(b"\n") == 1
    assert read_worker_config(line) == config
    assert "S3CRET" not in repr(config)


def test_a_worker_leaves_the_lifetimes_of_the_database_as_they_are(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    with serving_api(url) as api:
        open_store(url, policy=CAREFUL).close()  # Another service's, before this worker has opened its store.
        assert api.ask("POST", "/v1/companies/a/keys", {"lid-mapping": {"1": 1}}).status == 204
        assert api.store.policy == CAREFUL
        (row,) = api.store.export_rows("a")
    assert row.never_expires


def test_the_lifetimes_of_the_database_are_those_of_the_worker(tmp_path: Path) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db", policy=parse_policy("session=never")) as api:
        assert api.ask("POST", "/v1/companies/a/keys", {"session": {"x": 1}, "pre-key": {"1": 1}}).status == 204
        rows = {row.key_type: row for row in api.store.export_rows("a")}
    assert rows["session"].never_expires
    assert rows["pre-key"].expires_at is not None


def test_opening_a_store_is_tried_again_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, attempts = 100.0, 0
    monkeypatch.setattr("api.workers.worker.monotonic", lambda: now)

    def opening() -> Store:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise StoreUnavailable(f"away {attempts}")
        return open_store(f"sqlite:///{tmp_path}/k.db")

    with closing(LazyStore(opening)) as store:
        for later_s, message in ((0.0, "away 1"), (REOPEN_AFTER_S / 2, "away 1"), (REOPEN_AFTER_S, "away 2")):
            now = 100.0 + later_s
            with pytest.raises(StoreUnavailable, match=message):
                store()
        now += REOPEN_AFTER_S
        assert store() is store()
        assert attempts == 3


def test_a_socket_has_its_address_and_keeps_alive() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert address("::1", 80) == "[::1]:80"
    with pytest.raises(InvalidInput, match="no address of this machine"):
        listen("nobody.invalid", 0)
    with pytest.raises(KeystoreError, match=r"192\.0\.2\.1"):
        listen("192.0.2.1", 0)


def test_an_error_of_the_store_is_raised_again_unchanged() -> None:
    def opening() -> Store:
        raise LeaseLost("once")

    store = LazyStore(opening)
    for _ in range(2):
        with pytest.raises(LeaseLost, match="once"):
            store()
