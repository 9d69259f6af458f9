"""The growth chart: a picture that leaks no memory, and None if there is nothing to draw."""

import gc
import struct
import tracemalloc
from dataclasses import replace

import pytest

from monitor.reports import charts
from tests.monitor.sample_reports import GROWTH, without_forecast

pytest.importorskip("matplotlib", reason="the `charts` extra isn't installed")

WARM_UP, PICTURES = 2, 4
MAY_GROW_BYTES = 300_000
"""Growth allowed over all pictures; a leaked figure takes a megabyte and more."""


def test_a_report_becomes_a_picture() -> None:
    assert charts.available()
    for report in (GROWTH, replace(GROWTH, forecast=None), replace(GROWTH, history=())):
        png = charts.growth_chart(report)
        assert png is not None
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert (width, height) == (880, 495)
        assert 10_000 < len(png) < 200_000


def test_without_data_there_is_no_picture() -> None:
    assert charts.growth_chart(without_forecast()) is None


@pytest.mark.slow
def test_pictures_leak_no_memory() -> None:
    for _ in range(WARM_UP):
        charts.growth_chart(GROWTH)
    gc.collect()
    tracemalloc.start()
    try:
        charts.growth_chart(GROWTH)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(PICTURES):
            charts.growth_chart(GROWTH)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < MAY_GROW_BYTES
