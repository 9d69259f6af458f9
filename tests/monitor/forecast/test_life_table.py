"""The keys that a cohort loses from one day to the next were used again; the life table learns from nothing else."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from keystore.records import LifeCount
from keystore.ttl import CAREFUL, DIARY
from monitor.forecast.history import Lives
from monitor.forecast.life_table import Survival, days_silent, held_share, lifetime_days, survival

DAY = timedelta(days=1)
MIDNIGHT = datetime(2025, 10, 8, tzinfo=UTC)


def snapshot(day: int, keys: dict[int, int], *, lasting: bool = False, hours: int = 0) -> Lives:
    """A snapshot on that day: `{days silent: keys}` of sessions, which live 7 days."""
    at = MIDNIGHT + day * DAY + timedelta(hours=hours)
    return Lives(
        at,
        tuple(LifeCount("session", lasting, at.date() + timedelta(days=8 - silent), n) for silent, n in keys.items()),
    )


def learned(*snapshots: Lives) -> Survival:
    """The survival of sessions, learned from these snapshots."""
    return survival("session", 7, snapshots, lambda begin, end: False)


def test_the_silent_share_of_a_large_cohort_is_the_part_that_is_left() -> None:
    table = learned(snapshot(0, {}), snapshot(3, {1: 100_000}), snapshot(4, {1: 100_000, 2: 60_000}))
    assert table.share(False, 1) == pytest.approx(0.6, abs=0.001)
    assert table.used == (40_000, 0)


def test_the_two_classes_are_learned_apart() -> None:
    table = learned(
        snapshot(0, {}),
        Lives(
            MIDNIGHT + 3 * DAY,
            snapshot(3, {1: 10_000}).counts + snapshot(3, {1: 10_000}, lasting=True).counts,
        ),
        Lives(
            MIDNIGHT + 4 * DAY,
            snapshot(4, {2: 9_000}).counts + snapshot(4, {2: 1_000}, lasting=True).counts,
        ),
    )
    assert table.share(False, 1) == pytest.approx(0.9, abs=0.01)
    assert table.share(True, 1) == pytest.approx(0.1, abs=0.01)


def test_a_day_never_seen_has_the_share_of_the_day_before() -> None:
    table = learned(snapshot(0, {}), snapshot(4, {1: 10_000, 2: 10_000}), snapshot(5, {2: 5_000, 3: 9_000}))
    assert table.share(False, 6) == table.share(False, 2) == pytest.approx(0.9, abs=0.01)
    assert table.share(False, 0) == 1.0, "a second use on the same day leaves the expiry as it is"


def test_a_class_takes_the_other_class_s_share_for_unseen_days() -> None:
    table = learned(
        snapshot(0, {}),
        Lives(MIDNIGHT + 6 * DAY, snapshot(6, {5: 1_000}).counts + snapshot(6, {1: 1_000}, lasting=True).counts),
        Lives(MIDNIGHT + 7 * DAY, snapshot(7, {6: 100}).counts + snapshot(7, {2: 1_000}, lasting=True).counts),
    )
    assert table.share(True, 5) == pytest.approx(0.1, abs=0.02)


def test_late_snapshots_show_the_uses_of_the_next_day() -> None:
    """Used every seventh day: at the last moment, on the last day that the expiry leaves."""
    table = learned(snapshot(0, {}), snapshot(9, {6: 1_000}, hours=22), snapshot(10, {7: 10}, hours=22))
    assert table.share(False, 7) == pytest.approx(0.01, abs=0.01)
    daily = learned(snapshot(0, {}), snapshot(9, {0: 900}, hours=21), snapshot(10, {1: 100}, hours=21))
    assert daily.share(False, 1) == pytest.approx(100 / (900 / (21 / 24)), abs=0.01)


def test_few_keys_change_a_share_little() -> None:
    table = learned(snapshot(0, {}), snapshot(4, {1: 10_000, 2: 1}), snapshot(5, {2: 5_000, 3: 0}))
    assert 0.3 < table.share(False, 2) < 0.5


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (snapshot(3, {0: 50}), snapshot(4, {1: 10})),  # Today's cohort still grows.
        (snapshot(3, {7: 50}), snapshot(4, {})),  # Swept, not used.
        (snapshot(3, {2: 50}), snapshot(4, {3: 80})),  # Imported into.
        (snapshot(3, {1: 50}), snapshot(6, {2: 10})),  # Too long ago.
    ],
)
def test_a_cohort_that_uses_did_not_shrink_teaches_nothing(before: Lives, after: Lives) -> None:
    assert learned(snapshot(0, {}), before, after).used == (0, 0)


def test_the_first_snapshot_s_keys_count_only_if_nothing_else_is_known() -> None:
    dated = (snapshot(3, {3: 1_000}), snapshot(4, {4: 100}))
    assert learned(snapshot(0, {}), *dated).share(False, 3) == pytest.approx(0.1, abs=0.01)
    known = (snapshot(6, {3: 1_000}), snapshot(7, {4: 900}))
    assert learned(snapshot(0, {}), *dated, *known).share(False, 3) == pytest.approx(0.9, abs=0.01)


def test_nothing_is_learned_from_a_disturbed_day() -> None:
    pair = (snapshot(0, {}), snapshot(3, {1: 1_000}), snapshot(4, {2: 10}))
    assert survival("session", 7, pair, lambda begin, end: begin == pair[1].at).used == (0, 0)


def test_a_gap_other_than_a_day_is_scaled_to_one() -> None:
    table = learned(snapshot(0, {}), snapshot(3, {1: 100_000}), snapshot(4, {2: 36_000}, hours=6))
    assert table.share(False, 1) == pytest.approx(0.36 ** (1 / 1.25), abs=0.001)


def test_without_snapshots_every_key_stays_silent() -> None:
    assert learned().share(True, 3) == 1.0


def test_lifetimes_follow_the_policy_and_the_guards() -> None:
    assert lifetime_days(DIARY, "session", guards=True) == 7
    assert lifetime_days(DIARY, "sender-key", guards=True) == 7
    assert lifetime_days(DIARY, "app-state-sync-key", guards=True) is None
    assert lifetime_days(DIARY, "app-state-sync-key", guards=False) == 14
    assert lifetime_days(CAREFUL, "identity-key", guards=False) is None


def test_a_group_in_use_holds_its_keys_past_their_end() -> None:
    counts = snapshot(9, {8: 60, 9: 30, 2: 500}).counts
    held = Lives(MIDNIGHT + 9 * DAY, tuple(replace(count, key_type="sender-key") for count in counts))
    assert held_share("sender-key", [held], 0.0, guards=True) == 1.0
    assert held_share("sender-key", [held], 90.0, guards=True) == pytest.approx(0.5, abs=0.02)
    assert held_share("sender-key", [], 0.0, guards=True) == 1.0
    assert held_share("sender-key", [held], 0.0, guards=False) == 0.0
    assert held_share("session", [held], 0.0, guards=True) == 0.0


def test_days_silent_follow_from_the_expiry() -> None:
    today = date(2025, 10, 8)
    assert days_silent(LifeCount("session", False, date(2025, 10, 16), 1), today, 7) == 0
    assert days_silent(LifeCount("session", False, date(2025, 10, 9), 1), today, 7) == 7
    assert days_silent(LifeCount("session", False, None, 1), today, 7) is None
