"""Structured logs on standard error: one line for each event, as text or as JSON. Libraries' logs go the same way."""

import logging
import sys
from typing import Literal

import structlog


def configure(style: Literal["text", "json"], *, verbose: bool) -> None:
    """Set logging up for the process; `verbose` also shows the events of normal work, as a service should."""
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
            # Never with the variables of each frame: they hold passwords and key values.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
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
