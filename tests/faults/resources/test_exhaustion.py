"""The pool is taken by slow queries, threads by slow bodies, descriptors by idle connections: others are served."""

import resource
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from api.workers.descriptors import connections_within
from keystore import open_store
from rig.waiting import eventually
from tests.api.workers.slow_clients import slow_body, slow_clients
from tests.faults.calls import Calls, http_get, http_post
from tests.faults.conftest import ACCOUNTS, Site, way_of
from tests.faults.writers import Writers, report, token_for

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

LASTS_S = 40.0
"""Longer than a body may take, and than any call of a bot."""

MOST_WAIT_S = 20.0
"""Limit of the time in which each of the other accounts writes once more."""

LOCKED = tuple(f"slow{number}" for number in range(8))
CALLS_OF_EACH = 2
SLOW_CLIENTS = 100
IDLE_CONNECTIONS = 20_000
OWN_DESCRIPTORS = 500
CONNECTING = 64
"""Connections that are opened at once. The service ends each 15 seconds after it has come without a request."""
HEALTH_MOST_S = 5.0

LOCK = b"SELECT 1 FROM keystore_company_leases WHERE company_id = ANY(%s) FOR UPDATE"


@contextmanager
def locked(site: Site, companies: Sequence[str]) -> Iterator[None]:
    """Keep the leases of these companies locked for the block, so that each statement on them waits."""
    with closing(psycopg.connect(site.server.url)) as owner:
        assert len(owner.execute(LOCK, [list(companies)]).fetchall()) == len(companies)
        yield


def longest_wait_s(writers: Writers, accounts: Sequence[str], lasts_s: float = LASTS_S) -> float:
    """Return the longest time in which these accounts wrote once more each, while so many seconds passed."""
    ends_at, longest_s = monotonic() + lasts_s, 0.0
    while monotonic() < ends_at:
        began = monotonic()
        writers.await_progress(60, accounts)
        longest_s = max(longest_s, monotonic() - began)
    return longest_s


def test_a_locked_account_is_waited_for_and_the_others_are_served(site: Site, baileys: Path) -> None:
    with Writers(baileys, site.url, site.token, ACCOUNTS) as writers:
        writers.await_all()
        with locked(site, ACCOUNTS[:1]):
            wait_s = longest_wait_s(writers, ACCOUNTS[1:])
        writers.await_progress(MOST_WAIT_S)
        writers.stop()
        with open_store(site.server.url) as store:
            figure = f"longest wait of another {wait_s:.1f} s"
            report(f"an account's row locked for 40 s ({way_of(site)})", 1, [writers], writers.lost(store), figure)
    assert wait_s < MOST_WAIT_S


@pytest.mark.parametrize("way", ["http"])
def test_slow_queries_take_every_connection(site: Site, baileys: Path) -> None:
    token = token_for(site.server.url, LOCKED)
    body = {"holder": "h", "ttl_s": 60}
    addresses = [f"{site.url}/v1/companies/{company}/lease" for company in LOCKED]
    for address in addresses:
        http_post(address, token, body)
    with Writers(baileys, site.url, site.token, ACCOUNTS) as writers, ExitStack() as calling:
        writers.await_all()
        healthy = calling.enter_context(Calls(lambda: http_get(f"{site.url}/healthz")))
        slow = []
        with locked(site, LOCKED):
            for address in addresses * CALLS_OF_EACH:
                call = Calls(lambda address=address: http_post(address, token, body))  # type: ignore[misc]
                slow.append(calling.enter_context(call))
            wait_s = longest_wait_s(writers, ACCOUNTS)
            while_locked = [(call.longest_s, call.failed) for call in slow]
        writers.await_progress(MOST_WAIT_S)
        calling.close()
        writers.stop()
        with open_store(site.server.url) as store:
            longest_s, failed = max(longest for longest, _ in while_locked), sum(failed for _, failed in while_locked)
            figures = (
                *(f"{failed} calls refused", f"longest of them {longest_s:.1f} s"),
                *(f"longest wait of another {wait_s:.1f} s", f"longest /healthz {healthy.longest_s:.1f} s"),
            )
            report("every connection of the pool taken for 40 s (HTTP)", 1, [writers], writers.lost(store), *figures)
    assert {error.partition(":")[0] for call in slow for error in call.errors} == {"503 urn"}
    assert failed >= len(slow)
    assert longest_s < 32
    assert wait_s < MOST_WAIT_S
    assert healthy.longest_s < HEALTH_MOST_S


@pytest.mark.parametrize("way", ["http"])
def test_slow_bodies_hold_up_nobody(site: Site, baileys: Path) -> None:
    port = int(site.url.rpartition(":")[2])
    begin = slow_body("/v1/companies/slow/keys", token_for(site.server.url, ["slow"]))
    begin_alone = slow_body("/v1/companies/alone/keys", token_for(site.server.url, ["alone"]))
    with Writers(baileys, site.url, site.token, ACCOUNTS) as writers:
        writers.await_all()
        with (
            slow_clients(port, begin, SLOW_CLIENTS) as clients,
            closing(socket.create_connection(("127.0.0.1", port), 5)) as alone,
        ):
            alone.sendall(begin_alone)
            wait_s = longest_wait_s(writers, ACCOUNTS)
            answer = alone.recv(64)
            alone.setblocking(False)
            eventually(lambda: is_cut(alone), "a body that goes on after its answer ends", 10)
        writers.stop()
        with open_store(site.server.url) as store:
            figures = f"{clients.reconnected} cut off", f"longest wait of another {wait_s:.1f} s"
            report(f"{SLOW_CLIENTS} slow bodies (HTTP)", 1, [writers], writers.lost(store), *figures)
    assert clients.reconnected >= SLOW_CLIENTS
    assert answer.startswith(b"HTTP/1.1 408 "), "a body that is within every other limit ends by its deadline"
    assert wait_s < MOST_WAIT_S


def is_cut(connection: socket.socket) -> bool:
    """Send one more byte; return True if the other side has ended the connection."""
    try:
        connection.sendall(b"a")
        return connection.recv(4096) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("way", ["http"])
def test_idle_connections_hold_up_nobody(site: Site, baileys: Path) -> None:
    port = int(site.url.rpartition(":")[2])
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE_CONNECTIONS, connections_within(descriptors) - OWN_DESCRIPTORS)
    with Writers(baileys, site.url, site.token, ACCOUNTS) as writers, ExitStack() as connections:
        writers.await_all()
        healthy = connections.enter_context(Calls(lambda: http_get(f"{site.url}/healthz")))
        with ThreadPoolExecutor(CONNECTING) as threads:
            idle = list(threads.map(lambda _: socket.create_connection(("127.0.0.1", port), 30), range(count)))
        for connection in idle:
            connections.callback(connection.close)
            connection.setblocking(False)
        at_once = sum(map(is_open, idle))
        wait_s = longest_wait_s(writers, ACCOUNTS, 20.0)
        still_open = sum(map(is_open, idle))
        connections.close()
        writers.await_progress(MOST_WAIT_S)
        writers.stop()
        with open_store(site.server.url) as store:
            figures = (
                *(f"{at_once:,} at once", f"{still_open:,} after 20 s", f"longest wait of another {wait_s:.1f} s"),
                f"longest /healthz {healthy.longest_s:.1f} s",
            )
            report(f"{count:,} idle connections (HTTP)", 1, [writers], writers.lost(store), *figures)
    assert still_open == 0
    assert wait_s < MOST_WAIT_S
    assert healthy.longest_s < HEALTH_MOST_S


def is_open(connection: socket.socket) -> bool:
    """Return True unless the service has closed this connection."""
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
