"""A sparkline draws values as bars, scaled from the smallest to the largest, up to a given width."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.reports.formatting import BARS, sparkline


def test_the_smallest_value_gets_the_lowest_bar_and_the_largest_the_highest() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == BARS


def test_equal_values_get_the_lowest_bar_and_no_values_get_none() -> None:
    assert sparkline([5, 5]) == "▁▁"
    assert sparkline([]) == ""


@given(st.lists(st.floats(-1e9, 1e9), max_size=200), st.integers(1, 40))
def test_it_has_a_bar_for_each_value_up_to_its_width(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, len(values))
