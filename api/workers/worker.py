"""A worker: a process that serves the API on a socket that run.py opened, with a store of its own.

It is started as a new process, never forked, because threads and connections don't survive a fork. Granian's own worker
runs in it. Granian's supervisor would be one more process of 27 MB; run.py supervises the workers itself.
"""

import gc
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import structlog
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from api.access.authentication import Authenticator
from api.access.rate_limit import RateLimit
from api.access_log import AccessLog
from api.app import Services, build_app
from api.page.routes import PageSettings
from api.workers.concurrency_limit import ConcurrencyLimit
from api.workers.config import BACKLOG, WorkerConfig, read_worker_config
from keystore.errors import KeystoreError
from keystore.invocation import set_program
from keystore.opening import open_store
from keystore.store import Store
from monitor.instances import Instance
from monitor.running import logs
from monitor.watch_settings import WatchSettings

DRAIN_TIMEOUT_S = 3.0
"""Time for the requests in progress once the worker is to stop. run.py must have ended after 5 s."""

THREADS = 32
"""Number of requests handled at once. It exceeds the database connections, so that /healthz answers while the database
hangs."""

MAX_CLIENT_CONNECTIONS = 20_000
"""Limit of open connections from clients, idle ones included. A bot keeps one or two open."""

HEADER_TIMEOUT_MS = 15_000

GC_THRESHOLD = 10_000
"""Allocations between two garbage collections. With Python's default of 700 each load of 721 keys starts a collection,
which finds nothing: a small read took a tenth longer."""

REOPEN_AFTER_S = 1.0

stopping = threading.Event()
"""Set once run.py wants the worker to stop, or has ended."""

log = structlog.get_logger()


class LazyStore:
    """The worker's store, opened at its first use, so that a worker starts and answers without a database."""

    def __init__(self, opener: Callable[[], Store]) -> None:
        self._open = opener
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._failed: tuple[float, KeystoreError] | None = None

    def __call__(self) -> Store:
        """Return the store. Raises the error of opening it, and the same error again for a second after that."""
        if self._store is not None:
            return self._store
        with self._opening:
            if self._store is None:
                if self._failed is not None and monotonic() - self._failed[0] < REOPEN_AFTER_S:
                    raise type(self._failed[1])(*self._failed[1].args) from self._failed[1]
                try:
                    self._store = self._open()
                except KeystoreError as error:
                    self._failed = monotonic(), error
                    raise
            return self._store

    def close(self) -> None:
        """Close the store, if it was opened."""
        if self._store is not None:
            self._store.close()


class _InProcessServer(MPServer):
    """Granian with this process as its one worker, on a socket that is open already."""

    def __init__(self, config: WorkerConfig) -> None:
        super().__init__(
            "",
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
            runtime_mode=RuntimeModes.mt,
            blocking_threads=THREADS,
            backpressure=MAX_CLIENT_CONNECTIONS,
            log_level=LogLevels.warning,
            websockets=False,
            ssl_cert=None if config.tls_cert is None else Path(config.tls_cert),
            ssl_key=None if config.tls_key is None else Path(config.tls_key),
        )
        self._shd: Any = SocketHolder(config.socket, False, BACKLOG)  # type: ignore[call-arg]  # Granian's types are behind
        self._sso, self._ipc = None, {}

    def run(self, load_app: Callable[[], Any]) -> None:
        """Serve until SIGTERM, and then until the requests in progress are answered."""
        self._spawn_worker(0, self._spawn_wsgi_worker, load_app).inner.run()


def main() -> None:
    """Read the config, and serve until the pipe closes."""
    config = read_worker_config(sys.stdin.buffer.readline())
    set_program(config.program)
    logs.configure(config.log, verbose=True)
    access_log = AccessLog(config.log, logs.lines_of_service())
    stop_args = (sys.stdin.buffer.fileno(), config, access_log)
    threading.Thread(target=_stop_when_pipe_closes, args=stop_args, name="supervisor-pipe", daemon=True).start()
    store = LazyStore(
        lambda: open_store(
            config.url,
            policy=config.policy,
            guard=config.guard,
            quota=config.quota,
            max_connections=config.connections,
            create=False,
        )
    )

    def load_app() -> Any:
        logs.configure(config.log, verbose=True)  # Again, because Granian has set up its own logs meanwhile.
        settings = WatchSettings(
            config.sweep_every_s,
            config.load_budget_ms,
            zone=ZoneInfo(config.zone),
            version=config.version,
            name=config.name,
        )
        started_at = datetime.fromtimestamp(config.started_at, UTC)
        instance = Instance(
            config.address, config.name, socket.gethostname(), config.version, started_at, config.workers
        )
        limit = RateLimit(config.requests_per_s)
        page = PageSettings(instance, over_tls=config.over_tls, admin_token_file=config.admin_token_file)
        services = Services(store, Authenticator(store), limit, settings, page, access_log)
        app = ConcurrencyLimit(build_app(services))
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
        return app

    _InProcessServer(config).run(load_app)
    store.close()
    _exit(config, access_log)


def _stop_when_pipe_closes(pipe: int, config: WorkerConfig, access_log: AccessLog) -> None:
    """Stop the worker when the pipe closes; the requests in progress have three seconds to be answered."""
    while os.read(pipe, 1):
        pass
    stopping.set()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(DRAIN_TIMEOUT_S)
    log.warning("http_worker_stopped_during_a_request")
    _exit(config, access_log)


def _exit(config: WorkerConfig, access_log: AccessLog) -> NoReturn:
    """Exit at once: a thread that waits for the database would delay the end.

    The metrics folder is removed here too, because run.py may have been killed and can't do it.
    """
    if stopping.is_set() and config.metrics_folder is not None:
        shutil.rmtree(config.metrics_folder, ignore_errors=True)
    access_log.flush()
    logs.lines_of_service().drain()
    os._exit(0)
