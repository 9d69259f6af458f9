"""The demo data set has the numbers of the original operator's table, and keeps them for three hours."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from keystore.records import KeyRow
from keystore.ttl import DIARY
from keystore.values.codec import encode
from monitor.upkeep.demo import RECONNECT_PRE_KEYS, demo_creds, demo_rows
from rig.baileys_state import real_keys
from rig.fixtures.clock import START

DAY = timedelta(days=1)
LATER = (timedelta(), timedelta(hours=1), timedelta(hours=3))
HOURS_OF_DAY = [START.replace(hour=hour) for hour in (0, 9, 15, 23)] + [datetime(2026, 3, 1, tzinfo=UTC)]


@pytest.fixture(params=HOURS_OF_DAY, ids=str)
def now(request: pytest.FixtureRequest) -> datetime:
    """A moment at which the data set is made."""
    at = request.param
    assert isinstance(at, datetime)
    return at


def created_since(rows: list[KeyRow], moment: datetime) -> int:
    """The number of rows created after a moment, as the census counts them."""
    return sum(row.created_at > moment for row in rows)


def test_same_moment_same_rows(now: datetime) -> None:
    assert demo_rows(now) == demo_rows(now)
    assert demo_creds() == demo_creds()


def test_another_moment_moves_only_the_times() -> None:
    names = [(row.key_type, row.key_id) for row in demo_rows(START)]
    assert names == [(row.key_type, row.key_id) for row in demo_rows(START + DAY)]


def test_every_name_occurs_once(now: datetime) -> None:
    rows = demo_rows(now)
    assert len({(row.key_type, row.key_id) for row in rows}) == len(rows) == 665


def test_types_are_those_of_the_original_table(now: datetime) -> None:
    by_type = Counter(row.key_type for row in demo_rows(now))
    named = {key_type: by_type.pop(key_type) for key_type in ("lid-mapping", "pre-key", "session", "lid")}
    assert named == {"lid-mapping": 56, "pre-key": 251, "session": 120, "lid": 172}
    assert by_type.total() == 66


def test_238_keys_live_14_days(now: datetime) -> None:
    assert sum(DIARY.ttl_s(row.key_type) == 14 * DAY.total_seconds() for row in demo_rows(now)) == 238


def test_only_lid_mappings_have_an_expiry_and_it_is_to_come(now: datetime) -> None:
    rows = demo_rows(now)
    assert sum(row.expires_at is None for row in rows) == 609
    assert not any(row.never_expires for row in rows)
    expiring = [row for row in rows if row.expires_at is not None]
    assert {row.key_type for row in expiring} == {"lid-mapping"}
    assert all(row.expires_at is not None and row.expires_at > now + LATER[-1] for row in expiring)


@pytest.mark.parametrize("later", LATER, ids=str)
def test_ages_are_those_of_the_original_table_for_three_hours(now: datetime, later: timedelta) -> None:
    rows, counted_at = demo_rows(now), now + later
    assert (counted_at - min(row.created_at for row in rows)).days == 17
    assert created_since(rows, counted_at - DAY) == 330
    assert created_since(rows, counted_at - 7 * DAY) == 425


def test_a_reconnect_wrote_248_pre_keys_and_3_were_written_today(now: datetime) -> None:
    by_moment = Counter(row.created_at for row in demo_rows(now) if row.key_type == "pre-key")
    ((reconnect, count),) = by_moment.most_common(1)
    assert count == RECONNECT_PRE_KEYS == 248
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    assert sum(n for at, n in by_moment.items() if at >= today and at != reconnect) == 3


def test_on_day_0_the_reconnect_was_yesterday() -> None:
    by_moment = Counter(row.created_at for row in demo_rows(START) if row.key_type == "pre-key")
    assert by_moment.most_common(1)[0][0].date() == (START - DAY).date()


def test_times_are_in_order_and_not_in_the_future(now: datetime) -> None:
    assert all(row.created_at <= row.updated_at <= now for row in demo_rows(now))


def test_the_destinations_of_mis_split_lids_are_free() -> None:
    rows = demo_rows(START)
    lids = [row.key_id for row in rows if row.key_type == "lid"]
    assert all(key_id.startswith("mapping-") for key_id in lids)
    rightful = {key_id.removeprefix("mapping-") for key_id in lids}
    assert len(rightful) == 172
    assert not rightful & {row.key_id for row in rows if row.key_type == "lid-mapping"}


@pytest.mark.parametrize(("key_type", "prefix"), [("lid-mapping", ""), ("lid", "mapping-")])
def test_each_lid_pair_is_stored_both_ways(key_type: str, prefix: str) -> None:
    names = {
        row.key_id.removeprefix(prefix): json.loads(row.value) for row in demo_rows(START) if row.key_type == key_type
    }
    forward = {name: lid for name, lid in names.items() if not name.endswith("_reverse")}
    assert {f"{lid}_reverse": phone for phone, lid in forward.items()} == {
        name: phone for name, phone in names.items() if name.endswith("_reverse")
    }


def test_values_have_the_sizes_and_shapes_of_real_ones() -> None:
    sizes: dict[str, list[int]] = {}
    for row in demo_rows(START):
        sizes.setdefault(row.key_type, []).append(len(row.value))
        assert encode(row.value)
    real = real_keys()
    for key_type in sizes.keys() & real.keys():
        real_sizes = sorted(len(value) for value in real[key_type].values())
        assert (min(sizes[key_type]), max(sizes[key_type])) == pytest.approx((real_sizes[0], real_sizes[-1]), rel=0.02)
    for row in demo_rows(START):
        if row.key_type in real:
            assert fields(json.loads(row.value)) == fields(json.loads(next(iter(real[row.key_type].values()))))


def fields(document: object) -> object:
    """The names in a document that are fields, without ids."""
    if isinstance(document, dict):
        return {
            name: fields(part) for name, part in document.items() if name.isalpha() or name in ("_sessions", "_chains")
        }
    return type(document).__name__


def test_creds_count_the_pre_keys() -> None:
    creds = json.loads(demo_creds())
    newest = max(int(row.key_id) for row in demo_rows(START) if row.key_type == "pre-key")
    assert creds["nextPreKeyId"] == newest + 1
