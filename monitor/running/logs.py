"""Structured logs on standard error: one line for each event, as text or as JSON. Libraries' logs go the same way.

A service must not depend on the reader of its log. A pipe that nobody reads fills up, and then each write to it waits
without end. So a service's lines go through a bounded queue, to one thread that writes them.
"""

import atexit
import logging
import os
import select
import sys
import threading
from collections import deque
from functools import cache
from typing import Literal

import structlog

MOST_PENDING_CHARS = 1_000_000
"""Limit of the characters that wait to be written. Lines beyond it are dropped and counted."""

FLUSH_WITHIN_S = 0.3
"""Time for writing the pending lines when the process ends."""

log = structlog.get_logger()


class LineWriter:
    """Writes lines to a file descriptor, from a thread of its own. No caller waits for the reader.

    It doesn't write through `sys.stderr`: a blocked thread would hold its lock when the interpreter shuts down.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._pending: deque[str] = deque()
        self._pending_chars = 0
        self._dropped = 0
        self._writing = False
        threading.Thread(target=self._run, name="log-lines", daemon=True).start()

    def write(self, lines: str) -> None:
        """Queue lines for writing; drop and count them if the queue is full."""
        with self._changed:
            if self._pending_chars + len(lines) > MOST_PENDING_CHARS:
                self._dropped += lines.count("\n")
                return
            self._pending.append(lines)
            self._pending_chars += len(lines)
            self._changed.notify_all()

    def drain(self, within_s: float = FLUSH_WITHIN_S) -> None:
        """Wait until everything is written, but for at most `within_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending and not self._writing, within_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._pending)
                lines = "".join(self._pending)
                self._pending.clear()
                self._pending_chars = 0
                self._writing = True
            written = self._write_all(lines.encode(errors="replace"))
            with self._changed:
                self._dropped += 0 if written else lines.count("\n")
                dropped, self._dropped = (self._dropped, 0) if written else (0, self._dropped)
            if dropped:
                log.warning(
                    "log_lines_dropped", lines=dropped, reason="standard error wasn't read, or its disk is full"
                )

    def _write_all(self, data: bytes) -> bool:
        """Write everything, however long it takes; False if the reader is gone or the disk is full."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


@cache
def lines_of_service() -> LineWriter:
    """Return the writer of this process's log. Only a service has one."""
    writer = LineWriter(sys.stderr.fileno())
    atexit.register(writer.drain)
    return writer


def configure(style: Literal["text", "json"], *, verbose: bool) -> None:
    """Set up the logging of a command, or with `verbose` that of a service, which logs its normal work too."""
    level = logging.INFO if verbose else logging.WARNING
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # A traceback must not show the variables of its frames: they hold passwords and key values.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(lines_of_service() if verbose else sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The pool's warnings repeat our own errors; yoyo logs at INFO the same as `migrate` prints.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.getLogger("yoyo").setLevel(logging.WARNING)
    logging.getLogger("_granian").setLevel(logging.WARNING)
