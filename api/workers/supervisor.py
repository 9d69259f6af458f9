"""The API's workers, as run.py sees them: it opens the socket, starts them, starts again what dies, and ends them.

A worker inherits the socket, so a restart refuses nobody: who connects meanwhile waits. It is told to end by the end
of the pipe that its orders came through, which also comes when run.py itself is killed.
"""

import errno
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import IO

import structlog

from api.workers.config import BACKLOG, Tls, WorkerConfig
from keystore.errors import InvalidInput, KeystoreError
from monitor.running.backoff import Backoff, no_jitter

PROGRAM = Path(__file__).with_name("__main__.py")

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus-client looks for the folder, once, when it is imported."""

SETTLED_AFTER_S = 10.0
"""A worker that lived so long is started again at once; one that didn't, after a pause that doubles."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), number)
    for name, number in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
    if hasattr(socket, name)
]
"""Each connection has them from the socket: a client whose machine is gone holds up a thread for a minute at most."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Address:
    """Where the API is served."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address) -> socket.socket:
    """A listening socket. Raises KeystoreError, in one line, when the address can't be had."""
    try:
        family, *_, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput(f"KEYSTORE_HTTP: {address.host} is no address of this machine ({error.strerror})") from error
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, option, number in _KEEP_ALIVE:
            opened.setsockopt(level, option, number)
        opened.bind(where)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise KeystoreError(
                f"KEYSTORE_HTTP: {address} is in use by another program; choose another port, or off"
            ) from error
        raise KeystoreError(f"KEYSTORE_HTTP: can't listen on {address}: {error.strerror}") from error
    return opened


def require_usable(tls: Tls) -> None:
    """Raises InvalidInput where the certificate and its key can't be read, or aren't each other's."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key, password="")
    except (OSError, ValueError) as error:
        reason = error.strerror or "they aren't PEM files, or not each other's" if isinstance(error, OSError) else error
        raise InvalidInput(
            f"KEYSTORE_TLS_CERT {tls.cert}, KEYSTORE_TLS_KEY {tls.key}: {reason}; name a PEM chain and its key without "
            "a passphrase"
        ) from error


class Workers:
    """So many workers on one socket."""

    def __init__(
        self, listening: socket.socket, orders: WorkerConfig, count: int, environment: Mapping[str, str]
    ) -> None:
        """Takes the socket over: `stop` closes it. Several workers keep their counts of requests in a common folder."""
        self._listening = listening
        self._folder = tempfile.mkdtemp(prefix="keystore-metrics-") if count > 1 else None
        self._orders = replace(orders, socket=listening.fileno(), metrics_folder=self._folder)
        self._environment = {**environment, **({} if self._folder is None else {METRICS_VARIABLE: self._folder})}
        self._count = count
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._watchers: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where they are reached, also where port 0 left the choice to the system."""
        scheme = "http" if self._orders.tls is None else "https"
        return f"{scheme}://{Address(*self._listening.getsockname()[:2])}"

    def start(self) -> None:
        """Starts them. Raises KeystoreError when a process can't be started."""
        for number in range(self._count):
            self._start(number)
        self._watchers = [
            threading.Thread(target=self._watch, args=(number,), name=f"http-{number}", daemon=True)
            for number in range(self._count)
        ]
        for watcher in self._watchers:
            watcher.start()

    def tell_to_end(self) -> None:
        """Asks them to answer what they have in hand and to end; nobody is let in any more."""
        with self._starting:
            self._stopping.set()
            for process in self._running.values():
                _close(_pipe(process))
        self._listening.close()

    def stop(self, within_s: float) -> bool:
        """Ends them; returns whether they ended by themselves. What didn't is killed."""
        give_up_at = monotonic() + within_s
        self.tell_to_end()
        ended = True
        for process in self._running.values():
            try:
                process.wait(max(0.0, give_up_at - monotonic()))
            except subprocess.TimeoutExpired:
                ended = False
                process.kill()
                process.wait()
        for watcher in self._watchers:
            watcher.join(1.0)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return ended

    def _start(self, number: int) -> None:
        with self._starting:
            if self._stopping.is_set():
                return
            try:
                process = subprocess.Popen(
                    [sys.executable, "-P", PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env=self._environment,
                    pass_fds=[self._orders.socket],
                    start_new_session=True,  # A terminal's Ctrl-C is for run.py, which ends them in order.
                )
            except OSError as error:
                raise KeystoreError(f"an HTTP worker can't be started: {error.strerror}") from error
            self._running[number] = process
            with suppress(BrokenPipeError):  # It died already; whoever waits for it sees that.
                pipe = _pipe(process)
                pipe.write(self._orders.line())
                pipe.flush()

    def _watch(self, number: int) -> None:
        """Starts a worker again whenever it dies."""
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, no_jitter)
        while True:
            began = monotonic()
            process = self._running[number]
            code = process.wait()
            _close(_pipe(process))
            if self._stopping.is_set():
                return
            if monotonic() - began > SETTLED_AFTER_S:
                backoff.reset()
            pause_s = backoff.next_s()
            log.error("http_worker_died", worker=number, code=code, again_in_s=pause_s)
            while True:
                if self._stopping.wait(pause_s):
                    return
                try:
                    self._start(number)
                    break
                except KeystoreError as error:
                    log.error("http_worker_not_started", worker=number, error=str(error), again_in_s=pause_s)


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdin is None:
        raise ValueError("a worker is started with a pipe")
    return process.stdin


def _close(pipe: IO[bytes]) -> None:
    with suppress(BrokenPipeError):
        pipe.close()
