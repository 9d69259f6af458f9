"""Keys carried forward: at equilibrium there are arrivals times lifetime, and more if uses keep some."""

from itertools import pairwise

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
    path = project([Cohort(False, 6, 2, 100.0), Cohort(False, 9, -1, 8.0)], held, 4)
    assert path == [108, 106, *((100 + 8 * 0.75) * 0.75**days for days in (1, 2, 3))], "a quarter of them goes each day"


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


def pre_key_rates(
    arrivals: float = 0.0, consumed: float = 0.0, guards: bool = True, companies: float = 1, new_companies: float = 0
) -> PreKeyRates:
    """Rates of pre-keys that live 7 days; a new company brings 800."""
    return PreKeyRates(7, companies, new_companies, arrivals, 800 * new_companies, consumed, guards)


def test_the_newest_pre_keys_stay() -> None:
    newest = [Cohort(True, 0, 8, 812.0)]
    assert project_pre_keys(newest, pre_key_rates(), 60)[-1] == 812
    assert project_pre_keys(newest, pre_key_rates(guards=False), 60)[-1] == 0
    assert project_pre_keys(newest, pre_key_rates(arrivals=5.0), 30)[-1] == 812 + 5 * 30


def test_older_pre_keys_go_when_they_expire() -> None:
    assert project_pre_keys([Cohort(False, 4, 3, 100.0)], pre_key_rates(), 3) == [100, 100, 100, 0]


def test_a_full_company_holds_its_newest_thousand_and_those_that_have_not_expired() -> None:
    path = project_pre_keys([Cohort(True, 7, 0, 1_000.0)], pre_key_rates(arrivals=10.0), 1_000)
    assert path[50] == 1_000, "the new keys displace expired ones, which are swept at once"
    assert path[-1] == 1_000
    assert project_pre_keys([], pre_key_rates(arrivals=250.0), 1_000)[-1] == pytest.approx(250 * 7, rel=0.2)


def test_companies_fill_up_before_they_lose_any() -> None:
    path = project_pre_keys([Cohort(True, 7, 0, 3_000.0)], pre_key_rates(arrivals=100.0, companies=5), 40)
    assert (path[20], path[40]) == (5_000, 5_000)


def test_keys_displaced_until_now_show_that_some_companies_are_full() -> None:
    present = [Cohort(True, 0, 8, 1_500.0), *(Cohort(False, 0, left, 10.0) for left in range(1, 8))]
    path = project_pre_keys(present, pre_key_rates(arrivals=20.0, companies=5), 7)
    assert path[-1] < 1_570 + 7 * 20 - 50


def test_new_companies_bring_their_own_room() -> None:
    path = project_pre_keys([Cohort(True, 7, 0, 1_000.0)], pre_key_rates(new_companies=0.1), 100)
    assert path[-1] == pytest.approx(1_000 + 80 * 100)


def test_consumption_never_takes_more_keys_than_are_present() -> None:
    path = project_pre_keys([Cohort(True, 0, 8, 100.0)], pre_key_rates(consumed=30.0), 6)
    assert path == [100, 70, 40, 10, 0, 0, 0]
