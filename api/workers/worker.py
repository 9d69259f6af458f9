"""One worker: a process that serves the API on a socket that run.py opened, with a store of its own.

It is started as a new process, never forked: threads and connections don't survive a fork. Granian's own worker runs
in it; Granian's supervisor would be one more process of 27 MB beside run.py, which watches over the workers itself.
"""

import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

import structlog
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from api.access.authentication import Gate
from api.access_log import AccessLog
from api.app import Services, build_app
from api.workers.concurrency_limit import ConcurrencyLimit
from api.workers.config import BACKLOG, Tls, WorkerConfig, read_worker_config
from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.store import Store
from monitor.running import logs
from monitor.watch_settings import WatchSettings

FINISH_WITHIN_S = 3.0
"""For requests in hand once the worker is to end; run.py is to be gone within 5."""

THREADS = 32
"""Requests in hand at once: more than connections, so that while the database hangs /healthz still answers."""

MOST_CONNECTIONS = 20_000
"""Of clients, idle ones included: a bot keeps one or two open."""

HEADERS_WITHIN_MS = 15_000

GARBAGE_AFTER = 10_000
"""New objects until Python looks for cycles among them. With 700, its own choice, it looks at each load of 721 keys and
finds none: a small read took a tenth longer."""

REOPEN_AFTER_S = 1.0

ending = threading.Event()
"""Set once run.py wants the worker to end, or is gone."""

log = structlog.get_logger()


class LazyStore:
    """The worker's store, opened when it is first asked for: a worker starts, and says why not, without a database."""

    def __init__(self, open_it: Callable[[], Store]) -> None:
        self._open = open_it
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._failed: tuple[float, KeystoreError] | None = None

    def __call__(self) -> Store:
        """The store. Raises what opening it raises; within a second of a failure, that again."""
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
        """Closes the store, if it was opened."""
        if self._store is not None:
            self._store.close()


class _OneWorker(MPServer):
    """Granian with the one worker that is this process, on a socket that is open already."""

    def __init__(self, socket: int, tls: Tls | None) -> None:
        super().__init__(
            "",
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADERS_WITHIN_MS),
            runtime_mode=RuntimeModes.mt,
            blocking_threads=THREADS,
            backpressure=MOST_CONNECTIONS,
            log_level=LogLevels.warning,
            websockets=False,
            ssl_cert=None if tls is None else Path(tls.cert),
            ssl_key=None if tls is None else Path(tls.key),
        )
        self._shd: Any = SocketHolder(socket, False, BACKLOG)  # type: ignore[call-arg]  # Granian's types are behind
        self._sso, self._ipc = None, {}

    def run(self, load_app: Callable[[], Any]) -> None:
        """Serves until SIGTERM, and then until the requests in hand are answered."""
        self._spawn_worker(0, self._spawn_wsgi_worker, load_app).inner.run()


def main() -> None:
    """Takes its orders, and carries them out until the pipe ends."""
    orders = read_worker_config(sys.stdin.buffer.readline())
    logs.configure(orders.log, verbose=True)
    access_log = AccessLog(orders.log)
    threading.Thread(
        target=_end_with, args=(sys.stdin.buffer.fileno(), orders, access_log), name="orders", daemon=True
    ).start()
    store = LazyStore(
        lambda: open_store(orders.url, policy=orders.policy, guard=orders.guard, max_connections=orders.connections)
    )

    def load_app() -> Any:
        logs.configure(orders.log, verbose=True)  # Granian has set up its own meanwhile.
        app = ConcurrencyLimit(app_of(orders, store, access_log))
        gc.freeze()
        gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])
        return app

    _OneWorker(orders.socket, orders.tls).run(load_app)
    store.close()
    _end(orders, access_log)


def app_of(orders: WorkerConfig, store: Callable[[], Store], access_log: AccessLog) -> Any:
    """The application that the orders describe."""
    return build_app(
        Services(
            store=store,
            gate=Gate(store, orders.requests_per_s),
            settings=WatchSettings(orders.sweep_every_s, orders.load_budget_ms, version=orders.version),
            over_tls=orders.over_tls,
            access_log=access_log,
        )
    )


def _end_with(pipe: int, orders: WorkerConfig, access_log: AccessLog) -> None:
    """Ends the worker when the pipe does: requests in hand are answered, within three seconds."""
    while os.read(pipe, 1):
        pass
    ending.set()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(FINISH_WITHIN_S)
    log.warning("http_worker_stopped_during_a_request")
    _end(orders, access_log)


def _end(orders: WorkerConfig, access_log: AccessLog) -> NoReturn:
    """Ends the process as it is: a thread that waits for the database would hold it up.

    It leaves nothing behind, also where run.py was killed and can't tidy up.
    """
    if ending.is_set() and orders.metrics_folder is not None:
        shutil.rmtree(orders.metrics_folder, ignore_errors=True)
    access_log.flush()
    os._exit(0)
