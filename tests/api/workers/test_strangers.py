"""Slow clients and hostile requests: the service answers everybody else in time, and its memory is bounded.

`KEYSTORE_TEST_SECONDS` makes the tests longer: the figures in docs/decisions/0017 are those of a minute.
"""

import http.client
import json
import multiprocessing
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import monotonic, perf_counter

import psutil
import psycopg
import pytest
from psycopg import sql

from api.access.strangers import BURST
from api.bodies import BODY_TIMEOUT_S
from api.workers.turns import MAX_RUNNING
from rig.waiting import eventually
from tests.api.service import JSON, Api, ask, serving_api
from tests.api.workers.slow_clients import (
    SLOW_FORM,
    SLOW_HANDSHAKE,
    SLOW_HEADERS,
    head,
    slow_body,
    slow_clients,
    unread,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("strangers")]

SECONDS = float(os.environ.get("KEYSTORE_TEST_SECONDS", "2.5"))
SLOW = 10 * MAX_RUNNING
ALIVE_WITHIN_S, BOT_WITHIN_S = 3.0, 6.0
"""Limits on a machine that runs other tests too. A request that waits for a slow client takes longer."""
MAX_BYTES = 300 * 2**20
"""The memory that a process may take while a token attacks it."""

HOSTILE, UNREAD = 16, 60
"""Hostile requests at once, and reads of 15 MB whose answers nobody takes."""

PAUSE_S = 0.05
"""Pause of an attacker between two requests, so that it doesn't take the processor away from everybody."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Api]:
    """The API with a company of 15 MB."""
    with serving_api(f"sqlite:///{tmp_path}/k.db") as api:
        api.store.set("slow", {"session": {f"{number}": b'"%s"' % (b"x" * 15_000) for number in range(1_000)}})
        eventually(lambda: api.ask("GET", "/healthz").status == 200, "the worker serves")
        yield api


def worker(api: Api) -> psutil.Process:
    """The first worker's process."""
    return psutil.Process(api.workers.process_ids[0])


def slowest(get: Callable[[str, str], int], seconds: float) -> tuple[float, float]:
    """The longest times of `/healthz` and of a bot's request while `seconds` pass."""
    until, alive_s, bot_s = monotonic() + seconds, 0.0, 0.0
    while monotonic() < until:
        for _ in range(2):
            began = perf_counter()
            assert get("GET", "/healthz") == 200
            alive_s = max(alive_s, perf_counter() - began)
            began = perf_counter()
            assert get("POST", "/v1/companies/bot/keys/get") == 200
            bot_s = max(bot_s, perf_counter() - began)
        threading.Event().wait(0.1)
    return alive_s, bot_s


def show(title: str, alive_s: float, bot_s: float, process: psutil.Process) -> None:
    """Print figures; pytest shows them with -s."""
    mib = process.memory_info().rss / 2**20
    print(f"\n{title}: /healthz {alive_s:.3f} s, a bot {bot_s:.3f} s, {mib:.0f} MiB")  # noqa: T201


@pytest.mark.parametrize("kind", ["headers", "form", "body", "unread"])
def test_slow_clients_delay_nobody(served: Api, kind: str) -> None:
    slow, bot = served.token("slow"), served.token("bot")
    begin = {
        "headers": SLOW_HEADERS,
        "form": SLOW_FORM,
        "body": slow_body("/v1/companies/slow/keys", slow),
        "unread": unread("/v1/companies/slow/state", slow),
    }[kind]

    def get(method: str, path: str) -> int:
        body = b'{"type":"session","ids":["x"]}' if method == "POST" else None
        return ask(served.port, method, path, body, token=bot).status

    with slow_clients(served.port, begin, SLOW, b"" if kind == "unread" else b"a") as clients:
        alive_s, bot_s = slowest(get, SECONDS)
        show(kind, alive_s, bot_s, worker(served))
    if kind in ("headers", "form", "body") and BODY_TIMEOUT_S + 2 < SECONDS:
        assert clients.reconnected, "they were cut off at their deadline"
    assert alive_s < ALIVE_WITHIN_S
    assert bot_s < BOT_WITHIN_S


def test_slow_handshakes_delay_nobody(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    # fmt: off
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    # fmt: on
    context = ssl.create_default_context(cafile=str(cert))
    context.check_hostname = False
    with serving_api(f"sqlite:///{tmp_path}/k.db", tls_cert=str(cert), tls_key=str(key)) as api:
        bot = api.token("bot")

        def get(method: str, path: str) -> int:
            connection = http.client.HTTPSConnection("127.0.0.1", api.port, timeout=10, context=context)
            body = b'{"type":"session","ids":["x"]}' if method == "POST" else None
            connection.request(method, path, body, {**JSON, "Authorization": f"Bearer {bot}"})
            status = connection.getresponse().status
            connection.close()
            return status

        assert get("GET", "/healthz") == 200, "the worker serves"
        with slow_clients(api.port, SLOW_HANDSHAKE, SLOW):
            alive_s, bot_s = slowest(get, SECONDS)
            show("handshake", alive_s, bot_s, worker(api))
        assert alive_s < ALIVE_WITHIN_S
        assert bot_s < BOT_WITHIN_S


def hostile_requests(token: str) -> list[bytes]:
    """Requests whose bodies would take many times their size: types, ids, nested arrays."""
    types = b"{" + b",".join(b'"%d":{}' % number for number in range(1_400_000)) + b"}"
    ids = b'{"session":{' + b",".join(b'"%d":1' % number for number in range(1_450_000)) + b"}}"
    nested = b'{"session":{"a":' + b"[" * 8_000_000 + b"]" * 8_000_000 + b"}}"
    return [
        head("POST", "/v1/companies/slow/keys", Authorization=f"Bearer {token}", **_length(body)) + body
        for body in (types, ids, nested)
    ]


def _length(body: bytes) -> dict[str, str]:
    return {"Content_Type": "application/json", "Content_Length": str(len(body))}


def attack(port: int, token: str, requests: list[bytes], seconds: float) -> set[bytes]:
    """Send the requests at once, and again when they are answered; return the statuses. Runs as its own process."""
    statuses, until = set(), monotonic() + seconds

    def send(number: int) -> None:
        while monotonic() < until:
            with suppress(OSError, IndexError), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                with suppress(OSError):  # Refused before all of it was sent.
                    connection.sendall(requests[number % len(requests)])
                statuses.add(connection.recv(65_536).split(b" ", 2)[1])
            threading.Event().wait(PAUSE_S)

    path = unread("/v1/companies/slow/state", token)
    with ThreadPoolExecutor(HOSTILE) as threads, slow_clients(port, path, UNREAD, b""):
        list(threads.map(send, range(HOSTILE)))
    return statuses


def bot_percentile_99_s(port: int, token: str, seconds: float) -> float:
    """The time within which 99 % of a bot's reads are answered. Runs as its own process."""
    times, until = [], monotonic() + seconds
    while monotonic() < until:
        began = perf_counter()
        answer = ask(port, "POST", "/v1/companies/bot/keys/get", {"type": "session", "ids": ["x"]}, token=token)
        assert answer.status == 200, answer
        times.append(perf_counter() - began)
        threading.Event().wait(0.01)
    return sorted(times)[int(len(times) * 0.99)]


def test_one_token_with_hostile_requests_takes_no_memory(served: Api) -> None:
    slow, bot = served.token("slow"), served.token("bot")
    process, peak = worker(served), 0
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        before_s = processes.submit(bot_percentile_99_s, served.port, bot, SECONDS).result()
        attacking = processes.submit(attack, served.port, slow, hostile_requests(slow), SECONDS + 2)
        during = processes.submit(bot_percentile_99_s, served.port, bot, SECONDS)
        while not attacking.done():
            peak = max(peak, process.memory_info().rss)
            threading.Event().wait(0.01)
        during_s, statuses = during.result(), attacking.result()
    print(  # noqa: T201
        f"\na bot's p99 {before_s * 1000:.1f} ms, under attack {during_s * 1000:.1f} ms; "
        f"the worker {peak / 2**20:.0f} MiB at most; answers {sorted(statuses)}"
    )
    assert peak < MAX_BYTES
    assert statuses
    assert statuses <= {b"413", b"429", b"503", b"400"}
    assert worker(served).pid == process.pid


def test_a_large_answer_counts_until_the_client_has_it(served: Api) -> None:
    """An admin's token has no limit on bytes a second, so the answers that it holds are all that refuses it."""
    path = "/v1/companies/slow/state"
    for _ in range(4):
        assert served.ask("GET", path).status == 200
    with ExitStack() as unread_answers:

        def is_refused() -> bool:
            # The worker may not have noticed yet that an earlier answer is taken; then it refuses this client.
            unread_answers.enter_context(slow_clients(served.port, unread(path, served.admin), 1, b""))
            return served.ask("GET", path).status == 429

        eventually(lambda: is_refused() and is_refused(), "two answers are all it may hold")
        assert ask(served.port, "GET", path, token=served.token("slow")).status == 200, "another token has its own"
    eventually(lambda: served.ask("GET", path).status == 200, "they are gone")


def test_a_read_only_database_is_unready_and_its_reason_is_in_the_log(
    migrated_postgres_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    database = migrated_postgres_url.rpartition("/")[2]
    with serving_api(migrated_postgres_url) as api:
        token = api.token("a")
        assert ask(api.port, "GET", "/readyz").status == 200
        with closing(psycopg.connect(migrated_postgres_url, autocommit=True)) as conn:
            conn.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(sql.Identifier(database))
            )
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
            )
        eventually(lambda: ask(api.port, "GET", "/readyz").status == 503, "it takes no writes")
        body = {"session": {"x": 1}}
        for caller, in_detail in ((token, False), (token, False), (api.admin, True)):
            answer = ask(api.port, "POST", "/v1/companies/a/keys", body, token=caller)
            assert (answer.status, answer.problem) == (503, "unavailable")
            assert (database in answer.json["detail"] or "read-only" in answer.json["detail"]) == in_detail
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    reasons = [line for line in lines if line["event"] == "unavailable" and line["route"].startswith("POST")]
    assert len(reasons) == 1, "once a minute"
    assert "read-only" in reasons[0]["reason"]
    written = [line for line in lines if line["event"] == "request" and line["route"].startswith("POST")]
    assert {line["token_id"] for line in written} == {token.split("_")[1], api.admin.split("_")[1]}


def test_made_up_tokens_are_cheap_and_their_lines_few(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written: list[str] = []

    def events() -> list[dict[str, object]]:
        written.extend(line for line in capfd.readouterr().err.splitlines() if line.startswith("{"))
        return [json.loads(line) for line in written]

    with serving_api(f"sqlite:///{tmp_path}/k.db") as api:

        def guess(number: int) -> int:
            return ask(api.port, "GET", "/v1/companies/a/state", token=f"kst_a{number}_{'s' * 43}").status

        statuses = [guess(number) for number in range(300)]
        assert statuses[:BURST] == [401] * BURST
        assert statuses.count(429) > 200
        eventually(
            lambda: guess(0) != 200 and any(entry["event"] == "request_lines_left_out" for entry in events()),
            "the lines that were left out are counted",
        )
    requests = [entry for entry in events() if entry["event"] == "request"]
    assert {entry["address"] for entry in requests} == {"127.0.0.1"}
    assert len(requests) < 280, "the log is no way to fill the disk"


def test_a_worker_that_replaces_another_goes_on_with_its_counts(tmp_path: Path) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db", count=2) as api:

        def requests() -> float:
            text = api.ask("GET", "/metrics").body.decode()
            counted = [line for line in text.splitlines() if line.startswith("keystore_http_requests_total{")]
            return sum(float(line.rpartition(" ")[2]) for line in counted)

        def files() -> set[str]:
            folder = api.workers.metrics_folder
            assert folder is not None
            return {file.name for file in Path(folder).iterdir()}

        for _ in range(20):
            assert ask(api.port, "GET", "/healthz").status == 200
        before = requests()
        assert before >= 20
        for _ in range(2):
            dying = api.workers.process_ids[0]
            os.kill(dying, signal.SIGKILL)
            eventually(lambda: api.workers.process_ids[0] != dying, "it is replaced")  # noqa: B023
            eventually(lambda: ask(api.port, "GET", "/healthz").status == 200, "it serves")
        assert requests() > before
        assert files() <= {f"{kind}_{number}.db" for kind in ("counter", "histogram") for number in range(2)}
