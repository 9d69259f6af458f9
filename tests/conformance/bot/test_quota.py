"""A company has a quota of keys, bytes and key types. A write that exceeds it writes nothing, and says which one."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest

from keystore import Quota, QuotaExceeded, Store
from keystore.baileys import KEY_TYPES
from keystore.ids import MAX_OTHER_TYPES
from keystore.sql.quota import ALLOWANCE_SHARE
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.flood import flood

DAY = timedelta(days=1)
SMALL = Quota(keys=100, value_bytes=10_000)


def ids(first: int, count: int, value: bytes | None = b"V") -> dict[str, bytes | None]:
    return {f"{n}": value for n in range(first, first + count)}


def test_more_keys_than_the_quota_are_refused_as_a_whole(make_store: MakeStore) -> None:
    store = make_store(quota=SMALL)
    store.set("1", {"session": ids(0, 60)}, creds=b"C")
    with pytest.raises(QuotaExceeded, match=r"1: nothing was written: it would have 110 keys, and its quota is 100"):
        store.set("1", {"session": ids(60, 50)}, creds=b"C2")
    state = store.load("1")
    assert (state.total, state.creds) == (60, b"C")
    store.set("2", {"session": ids(0, 100)})
    store.set("1", {"session": ids(60, 40)})
    with pytest.raises(QuotaExceeded):
        store.set("1", {"session": {"one more": b"V"}})


def test_more_bytes_than_the_quota_are_refused_also_in_a_rewrite(make_store: MakeStore) -> None:
    store = make_store(quota=SMALL)
    store.set("1", {"session": ids(0, 10)})
    with pytest.raises(QuotaExceeded, match=r"values would take 1\d,\d{3} bytes, and its quota is 10,000"):
        store.set("1", {"session": ids(0, 10, b"V" * 1_100)})
    for round_ in range(9):
        store.set("1", {"session": {f"{round_}": b"V" * 1_000}})
    with pytest.raises(QuotaExceeded):
        store.set("1", {"session": {"9": b"V" * 1_000}})
    assert store.get("1", "session", ["9"]) == {"9": b"V"}


@pytest.mark.parametrize("key_type", ["session", "pre-key"])
def test_writes_of_one_key_each_end_at_the_quota(make_store: MakeStore, key_type: str) -> None:
    store = make_store(quota=Quota(keys=300))
    written = 0
    with suppress(QuotaExceeded):
        for n in range(400):
            store.set("1", {key_type: {f"{n}": b"V"}})
            written += 1
    assert written == store.load("1").total == 300


def test_a_company_over_its_quota_can_rewrite_replace_and_delete(make_store: MakeStore) -> None:
    make_store().set("1", {"session": ids(0, 150)})
    store = make_store(quota=SMALL)
    store.set("1", {"session": ids(0, 150, b"W")})
    store.set("1", {"session": {"0": None, "new": b"V"}})
    with pytest.raises(QuotaExceeded):
        store.set("1", {"session": {"0": b"V"}})
    store.set("1", {"session": ids(1, 60, None)})
    store.set("1", {"session": {"0": b"V"}})
    store.clear("1")
    store.set("1", {"session": ids(0, 100)})


def test_many_writers_at_once_exceed_the_quota_by_little(make_store: MakeStore) -> None:
    stores = [make_store(quota=Quota(keys=640)) for _ in range(2)]

    def write(n: int) -> None:
        with suppress(QuotaExceeded):
            stores[n % 2].set("1", {"session": ids(10 * n, 10)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(100)))
    under_way, written, allowance = 8, 10, 640 // ALLOWANCE_SHARE
    assert 630 <= stores[0].load("1").total <= 640 + under_way * (written + allowance)


def test_a_company_has_only_some_types_besides_baileys_own(store: Store) -> None:
    store.set("1", {key_type: {"a": b"A"} for key_type in KEY_TYPES})
    for n in range(MAX_OTHER_TYPES):
        store.set("1", {f"type {n}": {"a": b"A"}})
    before = store.load("1")
    with pytest.raises(QuotaExceeded, match=r"1: nothing was written: it would have 25 key types besides Baileys' own"):
        store.set("1", {"session": {"b": b"B"}, "one more": {"a": b"A"}}, creds=b"C")
    assert store.load("1") == before
    store.set("1", {"type 0": {"b": b"B"}, "session": {"b": b"B"}})
    store.set("2", {"one more": {"a": b"A"}})
    store.set("1", {"type 0": {"a": None, "b": None}})
    store.set("1", {"one more": {"a": b"A"}})


def test_a_write_with_more_types_than_a_company_may_have_is_refused(store: Store) -> None:
    with pytest.raises(QuotaExceeded, match="10,000 key types"):
        store.set("1", {f"type {n}": {"a": b"A"} for n in range(10_000)})
    assert store.load("1").total == 0


def test_a_company_with_too_many_types_from_elsewhere_can_go_on(store: Store, clock: Clock, store_url: str) -> None:
    flood(store_url, "1", 20_000)
    store.set("1", {"session": {"a": b"A"}, "type 19999": {"0": b"B"}})
    with pytest.raises(QuotaExceeded):
        store.set("1", {"one more": {"a": b"A"}})
    clock.advance(DAY)
    assert store.counts(START)
