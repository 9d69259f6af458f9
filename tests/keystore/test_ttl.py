"""The expiry rules: lifetimes, rounding, renewal, and the setting that changes them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keystore.errors import InvalidInput
from keystore.ttl import (
    CAREFUL,
    DEFAULT,
    DIARY,
    NEVER,
    UNDELIVERED_DAYS,
    Policy,
    expires_at,
    parse_duration,
    parse_policy,
    renewed_before,
    step_s,
)

DAY_S = 86_400.0
NOW = datetime(2025, 10, 8, 9, 41, 27, 123456, tzinfo=UTC)

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
LIVES = st.integers(1, 100 * 365 * 86_400)


@pytest.mark.parametrize(
    ("key_type", "days"),
    [
        ("lid-mapping", 7),
        ("some-lid-mapping-reverse", 7),
        ("pre-key", 7),
        ("session", 7),
        ("sender-key", 7),
        ("sender-key-memory", 14),
        ("app-state-sync-key", 14),
        ("app-state-sync-version", 14),
        ("identity-key", 14),
        ("lid", 14),
        ("pre", 14),
        ("anything", 14),
    ],
)
def test_the_preset_diary_is_the_original_operator_s_rule(key_type: str, days: int) -> None:
    assert DIARY.ttl_s(key_type) == days * DAY_S


def test_the_careful_preset_keeps_keys_longer_than_undelivered_messages() -> None:
    lifetimes = [CAREFUL.default_s, *CAREFUL.by_type.values(), *(ttl_s for _, ttl_s in CAREFUL.containing)]
    assert min(lifetimes) >= 31 * DAY_S > UNDELIVERED_DAYS * DAY_S
    for key_type in ("lid-mapping", "identity-key", "app-state-sync-key", "app-state-sync-version"):
        assert CAREFUL.ttl_s(key_type) == NEVER
    for key_type in ("session", "sender-key", "sender-key-memory", "device-list", "pre-key"):
        assert CAREFUL.ttl_s(key_type) == 90 * DAY_S
    assert CAREFUL.ttl_s("tctoken") == 35 * DAY_S


def test_an_exact_type_precedes_parts_of_names_which_match_in_order() -> None:
    policy = Policy({"my-lid-mapping": 1}, (("lid", 2), ("lid-mapping", 3)), 4)
    assert [policy.ttl_s(name) for name in ("my-lid-mapping", "lid-mapping", "x")] == [1, 2, 4]


@given(now=TIMES, life_s=LIVES)
@example(now=datetime(2025, 10, 8, tzinfo=UTC), life_s=7 * 86_400)
def test_an_expiry_is_the_first_step_after_the_whole_life(now: datetime, life_s: int) -> None:
    expires = expires_at(Policy(default_s=life_s), "x", now)
    assert expires is not None
    assert expires.tzinfo is UTC
    step = step_s(life_s)
    late_s = (expires - now).total_seconds() - life_s
    assert 0 <= late_s < step + 1e-6
    assert expires.microsecond == 0
    assert int(expires.timestamp()) % step == 0


@given(life_s=LIVES)
def test_rounding_lengthens_a_life_by_at_most_a_seventh(life_s: int) -> None:
    assert step_s(life_s) <= max(1, life_s / 7)
    assert 86_400 % step_s(life_s) == 0


def test_the_default_lifetimes_are_rounded_to_a_day() -> None:
    assert step_s(7 * DAY_S) == step_s(14 * DAY_S) == 86_400
    assert expires_at(DIARY, "session", NOW) == datetime(2025, 10, 16, tzinfo=UTC)
    assert expires_at(DIARY, "session", datetime(2025, 10, 8, tzinfo=UTC)) == datetime(2025, 10, 15, tzinfo=UTC)


def test_never_has_no_expiry() -> None:
    assert expires_at(Policy(default_s=NEVER), "x", NOW) is None


@given(now=TIMES, life_s=LIVES, left_s=st.integers(0, 200 * 365 * 86_400))
def test_renewal_is_due_with_less_than_half_of_the_life_left(now: datetime, life_s: int, left_s: int) -> None:
    limit = renewed_before(Policy(default_s=life_s), "x", now)
    assert limit is not None
    assert (now + timedelta(seconds=left_s) < limit) == (left_s < life_s / 2)


@given(now=TIMES, life_s=LIVES)
def test_a_fresh_expiry_is_never_due(now: datetime, life_s: int) -> None:
    policy = Policy(default_s=life_s)
    expires, limit = expires_at(policy, "x", now), renewed_before(policy, "x", now)
    assert expires is not None
    assert limit is not None
    assert expires >= limit


@given(now=TIMES, life_s=LIVES, later_s=st.integers(0, 200 * 365 * 86_400))
def test_a_due_renewal_moves_the_expiry_on(now: datetime, life_s: int, later_s: int) -> None:
    policy, later = Policy(default_s=life_s), now + timedelta(seconds=later_s)
    before, limit = expires_at(policy, "x", now), renewed_before(policy, "x", later)
    assert before is not None
    assert limit is not None
    if before < limit:
        after = expires_at(policy, "x", later)
        assert after is not None
        assert after > before


def test_any_expiry_is_due_under_a_policy_of_never() -> None:
    assert renewed_before(Policy(default_s=NEVER), "x", NOW) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("6h", 21_600), ("7d", 604_800), ("2w", 1_209_600), (" 7 D ", 604_800), ("1s", 1)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "0d", "1.5h", "7 days", "7d7", "7y", "99999999d", "inf", "٧d x"])
def test_another_duration_is_refused_with_the_name_of_its_setting(text: str) -> None:
    with pytest.raises(InvalidInput, match="KEYSTORE_SWEEP_EVERY"):
        parse_duration(text, "KEYSTORE_SWEEP_EVERY")


def test_an_empty_setting_is_the_default_policy() -> None:
    assert parse_policy("") == parse_policy("careful") == parse_policy(" , ") == DEFAULT == CAREFUL


def test_a_setting_overrides_types_and_the_default() -> None:
    policy = parse_policy("diary,pre-key=7d,session=30d,app-state-sync-key=never,default=14d")
    assert policy.ttl_s("session") == 30 * DAY_S
    assert policy.ttl_s("app-state-sync-key") == NEVER
    assert policy.ttl_s("sender-key") == policy.ttl_s("lid-mapping") == 7 * DAY_S
    assert parse_policy("default=never").ttl_s("x") == NEVER
    assert parse_policy("lid-mapping=1d").ttl_s("lid-mapping") == DAY_S


def test_a_preset_may_be_named_and_overridden() -> None:
    assert parse_policy("careful") == CAREFUL
    policy = parse_policy(" careful , session = 20d ")
    assert policy.ttl_s("session") == 20 * DAY_S
    assert policy.ttl_s("pre-key") == CAREFUL.ttl_s("pre-key")
    assert policy.default_s == CAREFUL.default_s


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("careless", "careless"),
        ("session=30d,careful", "careful"),
        ("session", "session"),
        ("session=", "session"),
        ("session=soon", "soon"),
        ("=7d", "=7d"),
        ("session=7d,session=8d", "session"),
        ("default=7d,default=8d", "default"),
        ("session=0d", "0d"),
    ],
)
def test_a_malformed_setting_is_refused_with_the_part_that_is_wrong(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        parse_policy(text)
