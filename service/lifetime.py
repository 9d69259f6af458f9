"""The life of the service: it starts, runs until a signal, and stops within five seconds."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import NoReturn, TypeAlias

import structlog

from api.workers.supervisor import Workers
from keystore.store import Store
from monitor.running import logs
from service.background import Background
from service.banner import start_banner
from settings import Settings, read_settings

STOP_WITHIN_S = 4.0
"""Time for running work to reach a safe stopping point. The whole process must exit within 5 s."""

EXIT_WITHIN_S = 4.6
"""Time after which the process exits, even if closing the store takes longer."""

log = structlog.get_logger()


class EndSignals:
    """SIGTERM, SIGINT and SIGHUP, in the order in which they arrive.

    They come through a pipe that Python's own handler writes to, in any thread. A lock in its place would hang: an
    Event's lock isn't reentrant, and a wait for a queue goes on when another thread took the signal, or when the signal
    came just before the wait.
    """

    def __init__(self) -> None:
        self._arrived, arriving = os.pipe()
        os.set_blocking(arriving, False)
        signal.set_wakeup_fd(arriving, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def get(self) -> str:
        """Wait for the next signal; its name."""
        return signal.Signals(os.read(self._arrived, 1)[0]).name

    @contextmanager
    def ending_a_start(self) -> Iterator[None]:
        """End the process within 5 seconds of a signal, even while the block waits for a lock or a server.

        Starting changes the database in transactions alone, so nothing is half-done. A block that ends in time goes on
        to `get`, which returns the signal.
        """
        block_ended, ending = os.pipe()

        def exit_if_stuck() -> None:
            readable, _, _ = select.select([self._arrived, block_ended], [], [])
            if block_ended not in readable and not select.select([block_ended], [], [], STOP_WITHIN_S)[0]:
                log.warning("stopped_during_start")
                logs.lines_of_service().drain()
                os._exit(0)

        guard = threading.Thread(target=exit_if_stuck, name="start-guard", daemon=True)
        guard.start()
        try:
            yield
        finally:
            os.close(ending)
            guard.join()
            os.close(block_ended)


@dataclass(frozen=True)
class Service:
    """The parts of a running service; `api` is None where the HTTP API is off."""

    store: Store
    background: Background
    api: Workers | None
    first_start: bool = False
    """True if nobody has a token for the API yet, apart from the one that this start made."""
    token_file: Path | None = None
    """The file of the first admin token, if there is one."""


Wire: TypeAlias = Callable[[Settings], Service]
"""Puts the service together; raises KeystoreError."""


def serve_until_signal(wire: Wire, read: Callable[[], Settings] = read_settings) -> NoReturn:
    """Run the service with the settings that `read` returns, until SIGTERM, SIGINT or SIGHUP; then exit.

    Raises KeystoreError when it can't start.
    """
    end_signals = EndSignals()
    settings = read()
    logs.configure(settings.log, verbose=True)
    with end_signals.ending_a_start():
        service = wire(settings)
        if service.api is not None:
            service.api.start()
        service.background.start()
    url = None if service.api is None else service.api.url
    every_s, guard = settings.sweep_every_s, settings.guard
    log.info("serving", database=service.store.database, http=url, sweep_every_s=every_s, guard=guard)
    if settings.telegram_token is None:
        log.info("telegram_not_set_up", hint="TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID; alerts go to this log alone")
    elif not settings.telegram_chats:
        log.warning("telegram_answers_nobody", hint="TELEGRAM_CHAT_ID is empty: no chat is answered or alerted")
    if settings.telegram_token is not None:
        from monitor.telegram.client import IN_CLEAR, sends_token_in_clear  # It imports requests.

        if sends_token_in_clear(settings.telegram_api_url):
            log.warning("telegram_not_encrypted", hint=IN_CLEAR)
    if sys.stderr.isatty() or (service.first_start and settings.log == "text"):
        release, database = version("signal-keystore"), service.store.database
        sys.stderr.write(start_banner(settings.name, release, database, url, service.token_file) + "\n")
        sys.stderr.flush()
    log.info("stopping", signal=end_signals.get())
    stop(service)
    _exit()


def stop(service: Service) -> None:
    """Stop every part, then close the store; when one of them takes too long, the process exits."""
    exit_timer = threading.Timer(EXIT_WITHIN_S, _exit_now, [service.store.database])
    exit_timer.daemon = True
    exit_timer.start()
    stop_at = monotonic() + STOP_WITHIN_S
    if service.api is not None:
        service.api.request_stop()
    stopped_in_time = service.background.stop(STOP_WITHIN_S)
    if service.api is not None:
        service.api.stop(max(0.0, stop_at - monotonic()))
    if not stopped_in_time:
        _exit_now(service.store.database)
    service.store.close()
    log.info("stopped")


def _exit_now(database: str) -> NoReturn:
    """Exit during a batch: its transaction is rolled back, so nothing is half-done."""
    log.warning("stopped_during_a_batch", database=database)
    _exit()


def _exit() -> NoReturn:
    """Exit at once. Every part has stopped, and the interpreter's own end takes 0.4 s, or 2 s on a busy machine."""
    logs.lines_of_service().drain()
    os._exit(0)
