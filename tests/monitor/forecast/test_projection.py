"""Keys carried forward: at equilibrium there are arrivals times lifetime, and more if uses keep some."""

from itertools import pairwise
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.forecast.life_table import Survival
from monitor.forecast.projection import Cohort, PreKeyRates, Rates, project, project_pre_keys

SILENT = Survival(({1: 1.0}, {1: 1.0}), (0, 0))
"""No key is ever used again."""


def rates(
    arrivals: float, life: int | None = 7, seen: Survival = SILENT, deleted: float = 0.0, part: float = 0.0
) -> Rates:
    """Rates with steady arrivals."""
    return Rates(life, part, lambda _: arrivals, deleted, seen)


@pytest.mark.parametrize("part", [0.0, 0.4, 0.99])
def test_unused_keys_come_to_arrivals_times_lifetime(part: float) -> None:
    path = project([], rates(10, part=part), 60)
    assert path[0] == 0
    assert path[-1] == pytest.approx(10 * (7 + part))
    assert path == sorted(path)


def test_present_keys_are_gone_at_their_expiry() -> None:
    path = project([Cohort(False, 5, 3, 100.0)], rates(0), 5)
    assert path == [100, 100, 100, 0, 0, 0]


def test_uses_keep_keys_for_longer() -> None:
    used = Survival(({1: 0.8}, {1: 0.5}), (100, 100))
    unused, renewed = project([], rates(10), 300)[-1], project([], rates(10, seen=used), 300)[-1]
    assert renewed > 2 * unused


def test_keys_of_an_active_group_stay_past_their_end() -> None:
    held = Rates(7, 0.0, lambda _: 0.0, 0.0, SILENT, held_share=0.75)
    assert project([Cohort(False, 6, 2, 100.0), Cohort(False, 9, -1, 8.0)], held, 4) == [108, 108, 83, 83, 83]


def test_deletions_take_their_share() -> None:
    used = Survival(({1: 0.9}, {1: 0.9}), (100, 100))
    assert project([], rates(10, seen=used, deleted=0.05), 300)[-1] < project([], rates(10, seen=used), 300)[-1]


def test_a_type_that_is_never_swept_keeps_growing() -> None:
    assert project([Cohort(False, 0, None, 3.0)], rates(1, life=None), 10) == [float(n) for n in range(3, 14)]


def test_keys_that_get_an_endless_lifetime_keep_their_expiry_until_used() -> None:
    present = [Cohort(False, 5, 3, 100.0), Cohort(False, 0, None, 7.0)]
    assert project(present, rates(0, life=None), 4) == [107, 107, 107, 7, 7]
    used = Survival(({1: 0.5}, {1: 0.5}), (1, 1))
    assert project(present, rates(0, life=None, seen=used), 4)[-1] == pytest.approx(7 + 100 * (1 - 0.5**3))
    held = Rates(None, 0.0, lambda _: 0.0, 0.0, SILENT, held_share=1.0)
    assert project(present, held, 4)[-1] == 107


def test_a_new_lifetime_holds_for_new_keys_only() -> None:
    old = [Cohort(False, silent, 8 - silent, 10.0) for silent in range(1, 8)]
    path = project(old, rates(10, life=14), 60)
    assert path[7] == pytest.approx(10 * 7), "the old ones went after their 7 days"
    assert path[-1] == pytest.approx(10 * 14)


@given(
    st.floats(0, 500),
    st.integers(1, 60),
    st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.floats(0, 1e4)), max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 0.999),
)
def test_a_path_never_grows_by_more_than_the_arrivals(
    arrivals: float, life: int, present: list[tuple[bool, int, float]], share: float, deleted: float, part: float
) -> None:
    cohorts = [
        Cohort(lasting, min(silent, life), life + 1 - min(silent, life), keys) for lasting, silent, keys in present
    ]
    seen = Survival(({1: share}, {1: share}), (1, 1))
    path = project(cohorts, rates(arrivals, life, seen, deleted, part), 40)
    for before, after in pairwise(path):
        assert -1e-6 <= after <= before + arrivals + 1e-6


def pre_key_rates(superseded: float, arrivals: float = 0.0, consumed: float = 0.0, guards: bool = True) -> PreKeyRates:
    """Rates of pre-keys that live 7 days."""
    return PreKeyRates(7, superseded, arrivals, 0.0, consumed, guards)


def test_the_newest_generation_stays_until_it_is_superseded() -> None:
    newest = [Cohort(True, 0, 8, 250.0)]
    assert project_pre_keys(newest, pre_key_rates(0.0), 60)[-1] == 250
    assert project_pre_keys(newest, pre_key_rates(0.0, guards=False), 60)[-1] == 0
    assert project_pre_keys(newest, pre_key_rates(0.5), 60)[-1] < 1


def test_an_older_generation_goes_when_it_expires() -> None:
    assert project_pre_keys([Cohort(False, 4, 3, 100.0)], pre_key_rates(0.0), 3) == [100, 100, 100, 0]


@pytest.mark.parametrize("every_days", [1, 4, 14, 60])
def test_a_generation_stays_for_its_life_or_until_the_next_one(every_days: int) -> None:
    """On average it stays for the longer of the two. At random intervals E[max(L, T)] = L + T exp(-L / T)."""
    path = project_pre_keys([], pre_key_rates(1 / every_days, arrivals=250 / every_days), 1_000)
    lives_days = 7 + every_days * exp(-7 / every_days)
    assert path[-1] == pytest.approx(250 / every_days * lives_days, rel=0.06)


def test_consumption_never_takes_more_keys_than_are_present() -> None:
    path = project_pre_keys([Cohort(True, 0, 8, 100.0)], pre_key_rates(0.0, consumed=30.0), 6)
    assert path == [100, 70, 40, 10, 0, 0, 0]
