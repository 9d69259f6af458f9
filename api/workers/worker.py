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
from time import monotonic
from typing import NoReturn
from zoneinfo import ZoneInfo

import structlog

from api.access.authentication import Authenticator
from api.access.rate_limit import RateLimit
from api.access_log import AccessLog
from api.app import Services, all_routes, build_app
from api.metrics import share_counts
from api.page.routes import PageSettings
from api.workers.concurrency_limit import ConcurrencyLimit
from api.workers.config import WorkerConfig, read_worker_config
from api.workers.descriptors import raise_descriptor_limit
from api.workers.front import Front
from api.workers.server import serve
from api.workers.turns import MAX_RUNNING
from keystore.errors import KeystoreError
from keystore.invocation import set_program
from keystore.opening import open_store
from keystore.store import Store
from monitor.instances import Instance
from monitor.running import logs
from monitor.watch_settings import WatchSettings

DRAIN_TIMEOUT_S = 3.0
"""Time for the requests in progress once the worker is to stop. run.py must have ended after 5 s."""

SPARE_THREADS = 8
"""Granian's threads in addition to those of running requests: for arriving requests and bodies, and `/healthz`."""

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
            guard=config.guard,
            quota=config.quota,
            secret_keys=config.secret_keys,
            max_connections=config.connections,
            create=False,
        )
    )

    settings = WatchSettings(
        config.sweep_every_s,
        config.load_budget_ms,
        zone=ZoneInfo(config.zone),
        version=config.version,
        name=config.name,
    )
    started_at = datetime.fromtimestamp(config.started_at, UTC)
    instance = Instance(config.address, config.name, socket.gethostname(), config.version, started_at, config.workers)
    page = PageSettings(instance, over_tls=config.over_tls, admin_token_file=config.admin_token_file)
    authenticator, rate_limit = Authenticator(store), RateLimit(config.requests_per_s)
    if config.metrics_folder is not None:
        share_counts(config.number)
    services = Services(store, authenticator, rate_limit, settings, page, access_log)
    routes = all_routes(services)
    app = build_app(services, routes)
    open_paths = frozenset(route.path for route in routes if route.access == "open")
    behind_proxy = config.over_tls and config.tls_cert is None
    front = Front(ConcurrencyLimit(app), app, authenticator, rate_limit, open_paths, behind_proxy=behind_proxy)
    gc.freeze()
    gc.enable()  # light_imports turned it off.
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    serve(
        config.socket,
        front.arrived,
        threads=MAX_RUNNING + SPARE_THREADS,
        max_connections=raise_descriptor_limit(),
        tls_cert=config.tls_cert,
        tls_key=config.tls_key,
    )
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
