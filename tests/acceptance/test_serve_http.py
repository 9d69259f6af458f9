"""The API as `serve` runs it: workers may die, but acknowledged writes stay, and nothing is left behind."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import psutil
import psycopg
import pytest

from keystore import open_store
from rig.fixtures.postgres import PASSWORD, OwnServer
from rig.program import RUN, Service, serving
from rig.waiting import eventually
from tests.acceptance.in_process import run_json, run_refused
from tests.api.service import Answer, ask

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serve_http")]

MB = 1_000_000
MOST_OF_ONE, MOST_OF_ALL = 90 * MB, 160 * MB
"""Memory limits of an idle service with one worker: of each process, and of all together."""

STATE = "/v1/companies/a/state"
UNWANTED = ("rich", "typer", "requests", "matplotlib", "pydantic", "numpy")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log file of the service."""
    return tmp_path / "log"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A new embedded database."""
    return f"sqlite:///{tmp_path}/k.db"


def admin(tmp_path: Path) -> str:
    """The token that the first start made."""
    return (tmp_path / "k.db.admin-token").read_text(encoding="ascii").strip()


def workers(service: Service) -> list[psutil.Process]:
    """The worker processes."""
    return psutil.Process(service.process.pid).children()


def answers(service: Service, token: str | None = None, path: str = "/readyz") -> bool:
    """True if a request is answered with status 200."""
    try:
        return ask(service.port, "GET", path, token=token).status == 200
    except (OSError, HTTPException):
        return False


def test_the_first_start_makes_an_admin_token_and_later_starts_none(url: str, log: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with serving(log, url) as service:
            assert ask(service.port, "GET", STATE, token=admin(tmp_path)).status == 200
            assert service.end(signal.SIGTERM) == 0
        made = [entry["event"] for entry in service.events].count("admin_token_made")
    assert made == 0, "the second start found one"


def test_a_server_database_gets_no_token_by_itself(postgres_url: str, log: Path, tmp_path: Path) -> None:
    with serving(log, postgres_url) as service:
        token = run_json("token", "create", "--company", "company_a", url=postgres_url)["token"]
        assert ask(service.port, "GET", STATE, token=token).status == 200
        assert service.end(signal.SIGTERM) == 0
    assert run_json("token", "list", url=postgres_url)["tokens"][0]["company"] == "a"


@pytest.mark.parametrize("count", [1, 2])
def test_workers_open_their_own_stores_and_show_no_secret(
    migrated_postgres_url: str, log: Path, tmp_path: Path, count: int
) -> None:
    token = run_json("token", "create", "--admin", url=migrated_postgres_url)["token"]
    with serving(
        log, migrated_postgres_url, KEYSTORE_HTTP_WORKERS=str(count), TELEGRAM_API_URL="http://127.0.0.1:1"
    ) as service:
        eventually(lambda: answers(service, token, STATE), "it answers")
        assert len(workers(service)) == count
        for process in workers(service):
            assert PASSWORD not in " ".join(process.cmdline())
            steering = [name for name in process.environ() if name.startswith(("KEYSTORE_", "TELEGRAM_"))]
            assert not steering
        assert service.end(signal.SIGTERM) == 0
    assert PASSWORD not in log.read_text(encoding="utf-8")
    assert token.split("_", 2)[2] not in log.read_text(encoding="utf-8")


def test_idle_it_stays_small(migrated_postgres_url: str, log: Path) -> None:
    token = run_json("token", "create", "--admin", url=migrated_postgres_url)["token"]
    with serving(log, migrated_postgres_url) as service:
        eventually(lambda: answers(service, token, STATE), "it answers")
        own = psutil.Process(service.process.pid)
        used = [process.memory_info().rss for process in (own, *own.children(recursive=True))]
        assert len(used) == 2
        assert max(used) <= MOST_OF_ONE, used
        assert sum(used) <= MOST_OF_ALL, used


def test_a_worker_loads_nothing_that_it_does_not_need() -> None:
    program = str(RUN.parent / "api" / "workers" / "__main__.py")
    looks = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", looks, program], capture_output=True, text=True, timeout=60, check=True
    )
    assert not set(UNWANTED) & set(done.stdout.split())


def test_a_worker_that_dies_is_started_again_and_nobody_is_refused(url: str, log: Path, tmp_path: Path) -> None:
    with serving(log, url) as service:
        eventually(lambda: answers(service), "it answers")
        (first,) = workers(service)
        first.kill()
        service.logged("http_worker_died")
        # The socket stays open, so a request waits for the next worker.
        assert ask(service.port, "GET", STATE, token=admin(tmp_path)).status == 200
        (second,) = workers(service)
        assert second.pid != first.pid
        assert service.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("count", [1, 3])
def test_when_run_py_is_killed_nothing_is_left(url: str, log: Path, count: int) -> None:
    with serving(log, url, KEYSTORE_HTTP_WORKERS=str(count), TMPDIR=str(log.parent)) as service:
        eventually(lambda: answers(service), "it answers")
        port, left = service.port, workers(service)
        assert len(left) == count
        service.process.kill()
        eventually(lambda: not any(process.is_running() for process in left), "the workers end by themselves")
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    assert not list(log.parent.glob("keystore-metrics-*"))


def test_a_request_in_hand_is_answered_when_the_service_stops(postgres_url: str, log: Path) -> None:
    with open_store(postgres_url) as store:
        store.set("a", {"session": {"x": b"1"}})
    token = run_json("token", "create", "--admin", url=postgres_url)["token"]
    with serving(log, postgres_url) as service, ThreadPoolExecutor(1) as pool:
        eventually(lambda: answers(service, token, STATE), "it answers")
        with closing(psycopg.connect(postgres_url)) as blocker:
            blocker.execute("LOCK TABLE whatsapp_keys")
            asked = pool.submit(ask, service.port, "POST", "/v1/companies/a/keys", {"session": {"y": 2}}, token=token)
            eventually(lambda: _waiting(postgres_url), "the write waits for the table")
            service.process.send_signal(signal.SIGTERM)
            service.logged("stopping")
            blocker.rollback()
        assert asked.result(30).status == 204
        assert service.process.wait(20) == 0
    with open_store(postgres_url) as store:
        assert store.get("a", "session", ["y"]) == {"y": b"2"}


def test_a_request_that_never_ends_does_not_hold_it_up(migrated_postgres_url: str, log: Path) -> None:
    token = run_json("token", "create", "--admin", url=migrated_postgres_url)["token"]
    with serving(log, migrated_postgres_url) as service, ThreadPoolExecutor(1) as pool:
        eventually(lambda: answers(service, token, STATE), "it answers")
        left = workers(service)
        with closing(psycopg.connect(migrated_postgres_url)) as blocker:
            blocker.execute("LOCK TABLE whatsapp_keys")
            asked = pool.submit(ask, service.port, "POST", "/v1/companies/a/keys", {"session": {"y": 2}}, token=token)
            eventually(lambda: _waiting(migrated_postgres_url), "the write waits for the table")
            assert service.end(signal.SIGTERM, within_s=8) == 0  # Five seconds, and some for a loaded machine.
            assert not any(process.is_running() for process in left)
            with pytest.raises((OSError, HTTPException)):
                asked.result(30)


def _waiting(url: str) -> bool:
    with closing(psycopg.connect(url)) as conn:
        row = conn.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return bool(row and row[0])


def test_a_port_in_use_is_one_line(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = run_refused("serve", url=url, KEYSTORE_HTTP=f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port} is in use" in message


def test_two_services_never_share_a_port(url: str, log: Path, tmp_path: Path) -> None:
    with serving(log, url) as service:
        message = run_refused("serve", url=f"sqlite:///{tmp_path}/other.db", KEYSTORE_HTTP=f"127.0.0.1:{service.port}")
        assert "is in use" in message
        assert service.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_an_address_that_others_reach_is_refused_without_tls(url: str, tmp_path: Path, address: str) -> None:
    assert "KEYSTORE_TLS_CERT" in run_refused("serve", url=url, KEYSTORE_HTTP=address)
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_an_address_of_another_machine_is_one_line(url: str) -> None:
    assert "192.0.2.1" in run_refused("serve", url=url, KEYSTORE_HTTP="192.0.2.1:0", KEYSTORE_BEHIND_PROXY="on")


def test_behind_a_proxy_it_may_listen_everywhere(url: str, log: Path, tmp_path: Path) -> None:
    with serving(log, url, KEYSTORE_HTTP="0.0.0.0:0", KEYSTORE_BEHIND_PROXY="on") as service:
        assert ask(service.port, "GET", STATE, token=admin(tmp_path)).status == 200
        assert service.end(signal.SIGTERM) == 0


def test_switched_off_it_serves_nothing(url: str, log: Path, tmp_path: Path) -> None:
    with serving(log, url, KEYSTORE_HTTP="off") as service:
        assert service.logged("serving")["http"] is None
        assert workers(service) == []
        assert service.end(signal.SIGTERM) == 0
    assert not (tmp_path / "k.db.admin-token").exists()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", cert],
        capture_output=True,
        check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("no openssl here to make a certificate with")
    return cert, key


def test_it_serves_over_tls(url: str, log: Path, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    settings = {"KEYSTORE_HTTP": "0.0.0.0:0", "KEYSTORE_TLS_CERT": str(cert), "KEYSTORE_TLS_KEY": str(key)}
    with serving(log, url, None, **settings) as service:
        assert service.logged("serving")["http"].startswith("https://")
        trusted = ssl.create_default_context(cafile=str(cert))
        with closing(HTTPSConnection("127.0.0.1", service.port, timeout=20, context=trusted)) as connection:
            connection.request("GET", STATE, headers={"Authorization": f"Bearer {admin(tmp_path)}"})
            assert connection.getresponse().status == 200
        with pytest.raises((OSError, HTTPException)):
            ask(service.port, "GET", "/healthz")
        assert service.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("broken", ["cert", "key", "both"])
def test_a_certificate_that_cannot_be_used_is_one_line(
    url: str, tmp_path: Path, certificate: tuple[Path, Path], broken: str
) -> None:
    cert, key = certificate
    if broken == "cert":
        cert.unlink()
    if broken == "key":
        key.write_text("no key", encoding="ascii")
    if broken == "both":
        cert, key = key, cert
    message = run_refused("serve", url=url, KEYSTORE_TLS_CERT=str(cert), KEYSTORE_TLS_KEY=str(key))
    assert "KEYSTORE_TLS_CERT" in message


def test_without_its_database_it_answers_with_a_retry_time_and_recovers(own_server: OwnServer, log: Path) -> None:
    open_store(own_server.url).close()
    token = run_json("token", "create", "--admin", url=own_server.url)["token"]
    with serving(log, own_server.url) as service:
        eventually(lambda: answers(service, token, STATE), "it answers")
        own_server.server.stop()

        def away() -> Answer:
            return ask(service.port, "GET", STATE, token=token)

        for answer in (away(), ask(service.port, "PUT", "/v1/companies/a/creds", {"a": 1}, token=token)):
            assert (answer.status, answer.problem) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
        eventually(lambda: not answers(service), "it isn't ready")
        assert answers(service, path="/healthz")
        workers(service)[0].kill()
        service.logged("http_worker_died")
        assert away().status == 503, "a worker starts without a database too"
        assert PASSWORD.encode() not in away().body
        own_server.server.start()
        eventually(lambda: answers(service) and answers(service, token, STATE), "it is back by itself")
        assert service.end(signal.SIGTERM) == 0


def test_a_database_restart_under_traffic_loses_no_acknowledged_write(own_server: OwnServer, log: Path) -> None:
    open_store(own_server.url).close()
    token = run_json("token", "create", "--company", "a", url=own_server.url)["token"]
    stop = threading.Event()
    acknowledged: set[str] = set()
    statuses: set[int | str] = set()
    with serving(log, own_server.url) as service:
        eventually(lambda: answers(service, token, STATE), "it answers")

        def write(writer: int) -> None:
            number = 0
            while not stop.is_set():
                key_id = f"{writer}-{number}"
                try:
                    body = {"session": {key_id: {"n": number}}}
                    status: int | str = ask(service.port, "POST", "/v1/companies/a/keys", body, token=token).status
                except (OSError, HTTPException) as error:
                    status = type(error).__name__
                statuses.add(status)
                if status == 204:
                    acknowledged.add(key_id)
                    number += 1

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        try:
            for restart in (own_server.server.stop, own_server.server.crash):
                before = len(acknowledged)
                eventually(lambda before=before: len(acknowledged) > before + 100, "writes are acknowledged")  # type: ignore[misc]
                restart()
                own_server.server.start()
            before = len(acknowledged)
            eventually(lambda: len(acknowledged) > before + 100, "it goes on")
        finally:
            stop.set()
            for thread in threads:
                thread.join(40)
        assert service.end(signal.SIGTERM) == 0
    with open_store(own_server.url) as store:
        stored = store.load("a").keys["session"]
    assert acknowledged <= stored.keys()
    assert statuses <= {204, 503}


def test_signals_of_a_terminal_reach_the_workers_through_run_py_alone(url: str, log: Path) -> None:
    with serving(log, url) as service:
        eventually(lambda: answers(service), "it answers")
        (worker,) = workers(service)
        assert os.getsid(worker.pid) != os.getsid(service.process.pid)
        assert service.end(signal.SIGINT) == 0
        assert not worker.is_running()


def test_the_check_report_equals_the_output_of_check(url: str, log: Path, tmp_path: Path) -> None:
    with serving(log, url) as service:
        service.logged("sweep_finished")
        served = ask(service.port, "GET", "/v1/health", token=admin(tmp_path)).json
        printed = run_json("check", url=url)
        assert served.keys() == printed.keys()
        same = ("database", "total", "verdict", "advice", "companies")
        assert json.dumps([served[name] for name in same]) == json.dumps([printed[name] for name in same])
        assert service.end(signal.SIGTERM) == 0
