"""The supervisor of the API's workers: opens their socket, starts them, restarts a worker that dies, and stops them.

The workers inherit one socket, so a restart refuses no client: new connections wait meanwhile. A worker stops when the
pipe closes that its config came through. That also happens when run.py itself is killed.
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
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import IO

import structlog

from api.workers.config import BACKLOG, WorkerConfig
from keystore.errors import InvalidInput, KeystoreError

PROGRAM = Path(__file__).with_name("__main__.py")

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the metrics folder; prometheus-client reads it once, when it is imported."""

STABLE_AFTER_S = 10.0
"""Age from which a worker counts as stable: its restart waits only the first pause. Otherwise the pause doubles."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), number)
    for name, number in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
    if hasattr(socket, name)
]
"""Options that each connection inherits. A client whose machine is gone blocks a thread for a minute at most."""

log = structlog.get_logger()


def address(host: str, port: int) -> str:
    """Return the host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises InvalidInput, KeystoreError, in one line."""
    try:
        family, *_, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput(f"KEYSTORE_HTTP: {host} is no address of this machine ({error.strerror})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, option, number in _KEEP_ALIVE:
            listener.setsockopt(level, option, number)
        listener.bind(sockaddr)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        problem = f"can't listen on {address(host, port)}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            problem = f"{address(host, port)} is in use by another program; choose another port, or off"
        raise KeystoreError(f"KEYSTORE_HTTP: {problem}") from error
    return listener


def require_usable(cert: str, key: str) -> None:
    """Raise InvalidInput if the certificate or its key can't be read, or they don't belong together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        reason = error.strerror or "they aren't PEM files, or not each other's" if isinstance(error, OSError) else error
        files = f"KEYSTORE_TLS_CERT {cert}, KEYSTORE_TLS_KEY {key}"
        raise InvalidInput(f"{files}: {reason}; name a PEM chain and its key without a passphrase") from error


class Workers:
    """`count` worker processes sharing one listening socket."""

    def __init__(
        self, listener: socket.socket, config: WorkerConfig, count: int, environment: Mapping[str, str]
    ) -> None:
        """Take over the socket, which `stop` closes. Several workers keep their counts of requests in one folder."""
        self._listener = listener
        self._folder = tempfile.mkdtemp(prefix="keystore-metrics-") if count > 1 else None
        self._config = replace(config, socket=listener.fileno(), metrics_folder=self._folder, workers=count)
        self._environment = {**environment, **({} if self._folder is None else {METRICS_VARIABLE: self._folder})}
        self._count = count
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._supervisors: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The URL at which they are reached, with the port that the system chose for port 0."""
        scheme = "http" if self._config.tls_cert is None else "https"
        return f"{scheme}://{address(*self._listener.getsockname()[:2])}"

    @property
    def metrics_folder(self) -> str | None:
        """The folder with the counts of several workers."""
        return self._folder

    @property
    def process_ids(self) -> list[int]:
        """The ids of the processes, by the workers' numbers."""
        return [process.pid for _, process in sorted(self._processes.items())]

    def start(self) -> None:
        """Start all workers. Raises KeystoreError if a process can't be started."""
        for number in range(self._count):
            self._start(number)
        for number in range(self._count):
            name = f"http-worker-{number}"
            self._supervisors.append(threading.Thread(target=self._supervise, args=(number,), name=name, daemon=True))
            self._supervisors[-1].start()

    def request_stop(self) -> None:
        """Ask all workers to answer the requests in progress and to stop; close the socket."""
        with self._starting:
            self._stopping.set()
            for process in self._processes.values():
                _close_pipe(process)
        self._listener.close()

    def stop(self, within_s: float) -> bool:
        """Stop all workers, and kill those that don't stop in time; return True if none was killed."""
        give_up_at = monotonic() + within_s
        self.request_stop()
        stopped_in_time = True
        for process in self._processes.values():
            try:
                process.wait(max(0.0, give_up_at - monotonic()))
            except subprocess.TimeoutExpired:
                stopped_in_time = False
                process.kill()
                process.wait()
        for supervisor in self._supervisors:
            supervisor.join(1.0)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return stopped_in_time

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
                    pass_fds=[self._config.socket],
                    start_new_session=True,  # A terminal's Ctrl-C is for run.py, which stops the workers in order.
                )
            except OSError as error:
                raise KeystoreError(f"an HTTP worker can't be started: {error.strerror}") from error
            self._processes[number] = process
            with suppress(BrokenPipeError):  # The worker died already; its supervisor sees that.
                pipe = _pipe(process)
                pipe.write(replace(self._config, number=number).line())
                pipe.flush()

    def _supervise(self, number: int) -> None:
        """Restart a worker whenever it dies, until all are to stop."""
        pause_s = FIRST_PAUSE_S
        while True:
            started_at = monotonic()
            process = self._processes[number]
            code = process.wait()
            _close_pipe(process)
            if self._stopping.is_set():
                return
            stable = monotonic() - started_at > STABLE_AFTER_S
            pause_s = FIRST_PAUSE_S if stable else min(2 * pause_s, LONGEST_PAUSE_S)
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


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    with suppress(BrokenPipeError):
        _pipe(process).close()
