"""Another company, which goes on writing while a test does something large to the same database."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from time import monotonic

from keystore import open_store
from keystore.sql.link import BOT_DEADLINE_S
from rig.fixtures.clock import Clock

COMPANY = "other"

Record = Callable[[str, object], None]
"""pytest's `record_testsuite_property`: the value stands in the report of `--junitxml`."""


@contextmanager
def another_company_writing(url: str, clock: Clock, record: Record, during: str) -> Iterator[None]:
    """Set one key after another until the block ends, and record the 99th percentile of their durations.

    Every set must succeed within a bot's deadline.
    """
    begun, ended, took_s = threading.Event(), threading.Event(), list[float]()

    def write() -> None:
        with open_store(url, clock=clock, max_connections=1) as store:
            store.set(COMPANY, {"session": {"a": b"A"}})
            begun.set()
            while not took_s or not ended.is_set():
                began = monotonic()
                store.set(COMPANY, {"session": {"a": b"A"}})
                took_s.append(monotonic() - began)

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        begun.wait(BOT_DEADLINE_S)
        try:
            yield
        finally:
            ended.set()
            writing.result(2 * BOT_DEADLINE_S)
    p99_s = sorted(took_s)[ceil(0.99 * len(took_s)) - 1]
    record(f"p99 in ms of another company's sets during {during}", round(p99_s * 1_000, 1))
    assert max(took_s) < BOT_DEADLINE_S
