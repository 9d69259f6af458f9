"""Requests a second of the API, against a bare Granian and Falcon handler that does the same read of one query.

Both run as programs of their own with one worker on one Postgres. They take turns, so that a slow moment of the machine
hits both. The clients are processes that keep their connections; each waits for an answer before its next request.
"""

import argparse
import json
import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import monotonic, perf_counter, sleep
from urllib.parse import urlsplit

from msgspec import Struct

from bench.command import OWN_SERVER, Command, Outcome, server_at
from bench.measuring import leave_interrupts_to_parent
from keystore.errors import KeystoreError
from keystore.opening import open_store
from rig.baileys_state import real_keys
from rig.paths import PROJECT
from rig.postgres_server import database_on
from rig.program import new_token, serving_database
from rig.relay import free_port

COMPANY = "79990000000"
CREDS = b'{"registered":true,"me":{"id":"79990000000:1@s.whatsapp.net"}}'

CONNECTIONS = 8
"""Database connections of each side."""

CLIENTS, CLIENT_PROCESSES = 16, 2
"""The number of client connections, and of the processes that share them."""

ROUNDS, ROUND_S = 5, 3.0
WARM_UP_S = 1.5
START_WITHIN_S = 30.0
IDS = 20

HANDLERS = {"same": 0.75, "plain": None}
"""The bare handlers, and the share of their requests a second that the API must reach.

`same` runs the store's own statement, as the API does. `plain` runs a SELECT that renews nothing; it has no limit and
is shown for comparison.
"""


class Comparison(Struct, frozen=True):
    """Requests a second of one operation on both sides: medians over the rounds, also of the rounds' ratios."""

    operation: str
    handler: str
    api_per_s: float
    bare_per_s: float
    ratio: float
    wanted: float | None

    @property
    def met(self) -> bool:
        """True if the wanted ratio is reached, or none is wanted."""
        return self.wanted is None or self.ratio >= self.wanted


Side = tuple[int, str]
"""A server's port, and the header lines that authorize a request."""

Request = tuple[int, bytes]
"""A server's port, and the bytes of a request to it."""


def compare(url: str, rounds: int, round_s: float) -> list[Comparison]:
    """Measure on the empty database at `url`."""
    with open_store(url) as store:
        store.set(COMPANY, real_keys(), creds=CREDS)
    ids = list(real_keys()["session"])[:IDS]
    wanted_keys = json.dumps({"type": "session", "ids": ids}).encode()
    requests = {
        "keys/get": (f"POST /v1/companies/{COMPANY}/keys/get", wanted_keys),
        "state": (f"GET /v1/companies/{COMPANY}/state", b""),
    }
    comparisons = []
    for handler, wanted in HANDLERS.items():
        with _api(url) as api, _bare(url, handler) as bare:
            for operation in requests:
                api_request, bare_request = (_request(side, *requests[operation]) for side in (api, bare))
                medians = _compared(operation, api_request, bare_request, rounds, round_s)
                comparisons.append(Comparison(operation, handler, *medians, wanted))
    return comparisons


def _compared(operation: str, api: Request, bare: Request, rounds: int, round_s: float) -> tuple[float, float, float]:
    """The medians of the API's and the bare handler's requests a second, and of their ratio."""
    assert json.loads(_answer(api)) == json.loads(_answer(bare)), f"{operation}: the two sides answer differently"
    for side in (api, bare):
        _per_s(side, WARM_UP_S)
    pairs = []
    for number in range(rounds):
        order = (api, bare) if number % 2 else (bare, api)
        measured = {side: _per_s(side, round_s) for side in order}
        pairs.append((measured[api], measured[bare]))
    api_per_s, bare_per_s = (round(median(side)) for side in zip(*pairs, strict=True))
    return api_per_s, bare_per_s, round(median(api_rate / bare_rate for api_rate, bare_rate in pairs), 3)


def _request(side: Side, line: str, body: bytes) -> Request:
    port, headers = side
    body_headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return port, f"{line} HTTP/1.1\r\nHost: bench\r\n{headers}{body_headers}\r\n".encode() + body


def _answer(request: Request) -> bytes:
    with socket.create_connection(("127.0.0.1", request[0]), timeout=10) as connection:
        return _exchange(connection, request[1])


def _per_s(request: Request, seconds: float) -> float:
    """Answers a second, summed over all clients. Raises what a client raises."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(CLIENT_PROCESSES, context, leave_interrupts_to_parent) as processes:
        clients = partial(_clients, request, CLIENTS // CLIENT_PROCESSES)
        return sum(processes.map(clients, [seconds] * CLIENT_PROCESSES))


def _clients(request: Request, clients: int, seconds: float) -> float:
    """Answers a second in one process."""
    until = monotonic() + seconds

    def ask(_: int) -> int:
        answered = 0
        with socket.create_connection(("127.0.0.1", request[0]), timeout=10) as connection:
            while monotonic() < until:
                _exchange(connection, request[1])
                answered += 1
        return answered

    began = perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        answered = sum(threads.map(ask, range(clients)))
    return answered / (perf_counter() - began)


def _exchange(connection: socket.socket, sent: bytes) -> bytes:
    """Send a request and return the body of its answer. Raises KeystoreError unless the status is 200."""
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
    """The service, with its log in a file as in production."""
    token = new_token(url, COMPANY)
    with serving_database(url, KEYSTORE_HTTP_RATE="off", KEYSTORE_CONNECTIONS=str(CONNECTIONS)) as service:
        yield int(urlsplit(service.url).port or 0), f"Authorization: Bearer {token}\r\n"


@contextmanager
def _bare(url: str, handler: str) -> Iterator[Side]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.http_api.bare_handler"], stdin=subprocess.PIPE, cwd=PROJECT
    )
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
                sleep(0.05)
        yield port, ""
    finally:
        process.terminate()
        process.wait(10)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a ratio is missed."""
    command = Command("bench.http_api", __doc__, url=OWN_SERVER)
    command.add_number("--rounds", ROUNDS, "rounds per operation")
    command.add_number("--seconds", ROUND_S, "length of a round", least=0)
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with server_at(options.url) as server, database_on(server, "bench_http") as url:
        comparisons = compare(url, options.rounds, options.seconds)
    lines = []
    for result in comparisons:
        verdict = f", wanted {result.wanted:.2f}: {'met' if result.met else 'MISSED'}" if result.wanted else ""
        lines.append(
            f"{result.operation:9} api {result.api_per_s:7,.0f}/s  bare ({result.handler}) "
            f"{result.bare_per_s:7,.0f}/s  ratio {result.ratio:.2f}{verdict}"
        )
    return Outcome("\n".join(lines), comparisons, all(result.met for result in comparisons))


if __name__ == "__main__":
    sys.exit(main())
