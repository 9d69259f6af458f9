"""A service's log lines never make anybody wait: what nobody reads is dropped and counted."""

import os
from threading import Thread
from time import perf_counter

from structlog.testing import capture_logs

from monitor.running.logs import MOST_PENDING_CHARS, LineWriter
from rig.waiting import eventually

LINE = "x" * 99 + "\n"


def test_lines_that_nobody_reads_are_bounded_and_counted() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    began = perf_counter()
    for _ in range(5 * MOST_PENDING_CHARS // len(LINE)):
        writer.write(LINE)
    writer.drain(0.05)
    assert perf_counter() - began < 5, "a caller waited for the reader"
    with capture_logs() as logged:
        written: list[bytes] = []
        Thread(target=lambda: written.extend(iter(lambda: os.read(reading, 65_536), b"")), daemon=True).start()
        eventually(lambda: logged != [], "the reader learns what it missed")
    writer.drain(5.0)
    missed = logged[0]["lines"]
    assert logged[0]["event"] == "log_lines_dropped"
    eventually(
        lambda: len(b"".join(written)) // len(LINE) + missed == 5 * MOST_PENDING_CHARS // len(LINE),
        "each line was written or counted",
    )
    assert missed > 2 * MOST_PENDING_CHARS // len(LINE)


def test_a_reader_that_is_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(writing)
    for _ in range(10):
        writer.write(LINE)
        writer.drain(5.0)
    os.close(writing)
