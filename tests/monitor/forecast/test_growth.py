"""The growth report repeats the original operator's arithmetic to the digit, and has an answer for an empty table."""

from datetime import timedelta

import pytest

from monitor.growth import Projection, growth_of, legacy_projection
from rig.fixtures.clock import START
from tests.monitor.sample_censuses import census


def test_the_original_numbers_come_out_as_the_operator_wrote_them() -> None:
    oldest = START - timedelta(days=17, hours=3)
    report = growth_of(census(total=665, created_24h=330, created_7d=425, oldest_created_at=oldest), "somewhere")
    assert (report.total, report.oldest_days, report.created_24h, report.created_7d) == (665, 17, 330, 425)
    assert report.per_day == 61
    assert report.diary == {"7": Projection(427, -238, -36), "14": Projection(854, 189, 28)}
    assert report.database == "somewhere"


def test_an_empty_table_has_a_report() -> None:
    report = growth_of(census(), "somewhere")
    assert (report.oldest_days, report.per_day) == (0, 0)
    assert report.diary == {"7": Projection(0, 0, 0), "14": Projection(0, 0, 0)}


@pytest.mark.parametrize(
    ("total", "per_day", "days", "expected"),
    [
        (100, 10, 10, Projection(100, 0, 0)),
        (3, 1, 7, Projection(7, 4, 133)),
        (1_000, 0, 14, Projection(0, -1_000, -100)),
    ],
)
def test_a_projection_is_keys_a_day_times_a_lifetime(total: int, per_day: int, days: int, expected: Projection) -> None:
    assert legacy_projection(total, per_day, days) == expected
