"""Requests a second of the API, held against a bare Granian and Falcon handler that does the same one-query read.

Both run as programs of their own with one worker, on one Postgres, turn by turn in one run, so that a slow moment of
the machine hits both. The clients are processes that keep their connections; each waits for an answer before it asks
again.
"""

import argparse
import json
import multiprocessing
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import urlsplit

from bench.command import errors_in_one_line
from keystore.errors import KeystoreError
from keystore.opening import open_store
from rig.baileys_state import real_state
from rig.paths import PROJECT
from rig.postgres_server import database_on, own_postgres
from rig.program import new_token, serving
from rig.relay import free_port

COMPANY = "79990000000"
CREDS = b'{"registered":true,"me":{"id":"79990000000:1@s.whatsapp.net"}}'

CONNECTIONS = 8
"""To the database, on both sides."""

CLIENTS = 16
"""Connections of clients; they share so many processes:"""
CLIENT_PROCESSES = 2

ROUNDS, ROUND_S = 5, 3.0
WARM_UP_S = 1.5
START_WITHIN_S = 30.0
IDS = 20

HANDLERS = {"same": 0.75, "plain": None}
"""The bare handlers, and what the API is to reach of their requests a second.

`same` runs the store's own statement, and so does what the API does. `plain` runs a SELECT that renews nothing: it is
told beside the other."""


@dataclass(frozen=True)
class Held:
    """Requests a second of one operation, on both sides: medians over the rounds, and of each round's ratio."""

    operation: str
    handler: str
    api_per_s: float
    bare_per_s: float
    ratio: float
    wanted: float | None

    @property
    def reached(self) -> bool:
        """Whether it is what is wanted."""
        return self.wanted is None or self.ratio >= self.wanted


@dataclass(frozen=True)
class Side:
    """A server: where it is, and the header that lets in."""

    port: int
    headers: str


def compare(url: str, rounds: int = ROUNDS, round_s: float = ROUND_S) -> list[Held]:
    """Measures on the empty database at `url`."""
    with open_store(url) as store:
        store.set(COMPANY, real_state(), creds=CREDS)
    ids = list(real_state()["session"])[:IDS]
    asked = json.dumps({"type": "session", "ids": ids}).encode()
    requests = {
        "keys/get": (f"POST /v1/companies/{COMPANY}/keys/get", asked),
        "state": (f"GET /v1/companies/{COMPANY}/state", b""),
    }
    held = []
    for handler, wanted in HANDLERS.items():
        with _api(url) as api, _bare(url, handler) as bare:
            for operation in requests:
                ours, other = (_request(side, *requests[operation]) for side in (api, bare))
                held.append(_held(operation, handler, wanted, ours, other, rounds, round_s))
    return held


def _held(
    operation: str,
    handler: str,
    wanted: float | None,
    api: "Request",
    bare: "Request",
    rounds: int,
    round_s: float,
) -> Held:
    assert json.loads(_answer(api)) == json.loads(_answer(bare)), f"{operation}: the two sides answer differently"
    for side in (api, bare):
        _per_s(side, WARM_UP_S)
    pairs = []
    for number in range(rounds):
        order = (api, bare) if number % 2 else (bare, api)
        measured = {side: _per_s(side, round_s) for side in order}
        pairs.append((measured[api], measured[bare]))
    return Held(
        operation,
        handler,
        round(median(pair[0] for pair in pairs)),
        round(median(pair[1] for pair in pairs)),
        round(median(pair[0] / pair[1] for pair in pairs), 3),
        wanted,
    )


@dataclass(frozen=True)
class Request:
    """A request as it is sent, and to which port."""

    port: int
    sent: bytes


def _request(side: Side, line: str, body: bytes) -> Request:
    given = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return Request(side.port, f"{line} HTTP/1.1\r\nHost: bench\r\n{side.headers}{given}\r\n".encode() + body)


def _answer(request: Request) -> bytes:
    with socket.create_connection(("127.0.0.1", request.port), timeout=10) as connection:
        return _exchange(connection, request.sent)


def _per_s(request: Request, seconds: float) -> float:
    """Answers a second, over all clients."""
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()
    share = CLIENTS // CLIENT_PROCESSES
    processes = [
        context.Process(target=_clients, args=(request, share, seconds, counts)) for _ in range(CLIENT_PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, "a client failed"
    return float(sum(counts.get() for _ in processes))


def _clients(request: Request, clients: int, seconds: float, counts: Any) -> None:
    answered = [0] * clients
    until = monotonic() + seconds

    def ask(number: int) -> None:
        with socket.create_connection(("127.0.0.1", request.port), timeout=10) as connection:
            while monotonic() < until:
                _exchange(connection, request.sent)
                answered[number] += 1

    began = perf_counter()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.put(sum(answered) / (perf_counter() - began))


def _exchange(connection: socket.socket, sent: bytes) -> bytes:
    """Sends a request and reads its answer; the body. Fails unless it is a 200."""
    connection.sendall(sent)
    got = connection.recv(65_536)
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise KeystoreError(f"answered {head[:40]!r}")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    parts, size = [body], len(body)
    while size < length:
        part = connection.recv(1 << 20)
        if not part:
            raise KeystoreError("the answer broke off")
        parts.append(part)
        size += len(part)
    return b"".join(parts)


@contextmanager
def _api(url: str) -> Iterator[Side]:
    """Our service, with its log in a file as in production."""
    token = new_token(url, COMPANY)
    with serving(url, {"KEYSTORE_HTTP_RATE": "off", "KEYSTORE_CONNECTIONS": str(CONNECTIONS)}) as service:
        yield Side(int(urlsplit(service.url).port or 0), f"Authorization: Bearer {token}\r\n")


@contextmanager
def _bare(url: str, handler: str) -> Iterator[Side]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.http_api.bare"], stdin=subprocess.PIPE, cwd=PROJECT)
    try:
        assert process.stdin is not None
        process.stdin.write(f"{url} {port} {CLIENTS} {CONNECTIONS} {handler}\n".encode())
        process.stdin.flush()
        give_up_at = monotonic() + START_WITHIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if monotonic() > give_up_at or process.poll() is not None:
                    raise
                threading.Event().wait(0.05)
        yield Side(port, "")
    finally:
        process.terminate()
        process.wait(10)


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Measures, says what came out, and exits with 1 when a ratio is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.http_api", description=__doc__)
    parser.add_argument("--url", help="a superuser's Postgres address; default: a server of its own")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=ROUND_S, help="of each round")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(args)
    with ExitStack() as opened:
        server = given.url or opened.enter_context(own_postgres())
        url = opened.enter_context(database_on(server, "bench_http"))
        held = compare(url, given.rounds, given.seconds)
    for one in held:
        wanted = "" if one.wanted is None else f", wanted {one.wanted:.2f}: {'ok' if one.reached else 'missed'}"
        print(
            f"{one.operation:9} api {one.api_per_s:7,.0f}/s  bare ({one.handler}) {one.bare_per_s:7,.0f}/s  "
            f"ratio {one.ratio:.2f}{wanted}"
        )
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(one) for one in held], indent=2) + "\n", encoding="utf-8")
    return 0 if all(one.reached for one in held) else 1
