"""The census equals a dict model, on a made-up table with keys of every kind."""

import json
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from keystore import Store
from keystore.records import Census, KeyRow, TypeCount
from keystore.ttl import DIARY
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep
from tests.conformance.model_store import Model, ModelKey, Name

DAY = timedelta(days=1)
NOW = START
COMPANIES = ("1", "2", "acme")
TYPES = (
    "pre-key",
    "session",
    "sender-key",
    "sender-key-memory",
    "app-state-sync-key",
    "lid-mapping",
    "device-list",
    "identity-key",
    "tctoken",
)


def made_up_rows(company: str, seed: int) -> list[KeyRow]:
    """Keys of every type and age, with every kind of expiry; sender keys and memories share groups."""
    dice = random.Random(f"{company} {seed}")
    rows = []
    for key_type in TYPES:
        for n in range(12):
            group = f"group {n % 4}@g.us"
            number, lid = f"49{n % 7}", f"2{dice.randrange(4)}"
            address = dice.choice([f"{number}.0", f"{lid}_1.0"])
            key_id = {
                "sender-key": f"{group}::user {n}::0",
                "sender-key-memory": group,
                "session": address,
                "identity-key": address,
                "device-list": dice.choice([number, lid]),
                "tctoken": dice.choice([f"{number}@s.whatsapp.net", f"{lid}@lid"]),
                "lid-mapping": dice.choice([number, f"{lid}_reverse"]),
            }.get(key_type, f"{n}")
            mapped = number if key_id.endswith("_reverse") else lid
            updated_at = NOW - dice.choice([0.5, 1, 6, 7, 12, 20, 40]) * DAY + dice.uniform(-90, 90) * DAY / 1440
            expires = dice.choice(["past", "past", "now", "future", "none", "never"])
            rows.append(
                KeyRow(
                    key_type,
                    key_id,
                    json.dumps(mapped).encode(),
                    min(updated_at, NOW) - dice.choice([0, 0, 3, 30]) * DAY,
                    min(updated_at, NOW),
                    {"past": NOW - DAY, "now": NOW, "future": NOW + DAY}.get(expires),
                    never_expires=expires == "never",
                )
            )
    return list({(row.key_type, row.key_id): row for row in rows}.values())


def fill(store: Store, model: Model, seed: int) -> None:
    """Put the same made-up rows into a store and a model."""
    for company in COMPANIES:
        rows = made_up_rows(company, seed)
        store.restore_rows(company, rows)
        for row in rows:
            model.keys[company, row.key_type, row.key_id] = ModelKey(
                row.value, row.created_at, row.updated_at, row.expires_at, row.never_expires
            )


def expected_count(model: Model, key_type: str) -> TypeCount:
    """The count of one type that the census should give."""
    keys: dict[Name, Any] = {name: key for name, key in model.keys.items() if name[1] == key_type}
    without = sum(key.expires_at is None and not key.never_expires for key in keys.values())
    return TypeCount(
        key_type=key_type,
        total=len(keys),
        with_expiry=len(keys) - without,
        without_expiry=without,
        expired=len(model.expired() & keys.keys()),
        guarded=len((model.past() - model.expired()) & keys.keys()),
        created_24h=sum(key.created_at > NOW - DAY for key in keys.values()),
        created_7d=sum(key.created_at > NOW - 7 * DAY for key in keys.values()),
    )


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize("seed", range(1, 9))
def test_census_equals_the_model_and_a_sweep_deletes_the_expired_keys(
    make_store: MakeStore, clock: Clock, guard: bool, seed: int
) -> None:
    store, model = make_store(clock=clock, guard=guard), Model(clock, DIARY, guard=guard)
    fill(store, model, seed)
    census = store.census()
    types = tuple(expected_count(model, key_type) for key_type in sorted(TYPES))
    assert census.by_type == types
    assert census == Census(
        taken_at=NOW,
        total=len(model.keys),
        active=len(model.keys) - len(model.past()),
        expired=len(model.expired()),
        guarded=len(model.past()) - len(model.expired()),
        without_expiry=sum(count.without_expiry for count in types),
        companies=len(COMPANIES),
        last_activity_at=max(key.updated_at for key in model.keys.values()),
        oldest_created_at=min(key.created_at for key in model.keys.values()),
        created_24h=sum(count.created_24h for count in types),
        created_7d=sum(count.created_7d for count in types),
        pre_keys_rewritten_7d=0,
        size_bytes=census.size_bytes,
        by_type=types,
    )
    assert census.expired, "the made-up rows have no expired key"
    assert census.guarded > 0 or not guard
    assert [(due.company_id, due.keys) for due in store.due_companies()] == sorted(
        Counter(company for company, _, _ in model.past()).items()
    )
    run = sweep(store)
    assert run.deleted == census.expired
    assert run.by_type == model.sweep() == {count.key_type: count.expired for count in types if count.expired}
    for company in COMPANIES:
        assert store.load(company).keys == model.load(company)[1]
    again = store.census()
    assert (again.expired, again.guarded, again.total) == (0, census.guarded, census.total - census.expired)
    assert sweep(store).deleted == 0


def test_census_of_an_empty_table(store: Store) -> None:
    census = store.census()
    assert (census.total, census.companies, census.by_type) == (0, 0, ())
    assert (census.last_activity_at, census.oldest_created_at) == (None, None)


def test_creds_count_as_a_company_and_as_activity_but_not_as_a_key(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    clock.advance(DAY)
    store.set_creds("2", b"C")
    census = store.census()
    assert (census.total, census.companies) == (1, 2)
    assert census.last_activity_at == clock()
    assert census.oldest_created_at == START


def test_size_grows_with_what_is_stored(store: Store) -> None:
    before = store.census().size_bytes
    store.set("1", {"session": {f"{n}": random.Random(n).randbytes(100_000) for n in range(10)}})
    assert store.census().size_bytes - before >= 1_000_000


def test_an_unused_pre_key_with_a_new_value_is_logged_and_counted(store: Store, clock: Clock) -> None:
    store.set("1", {"pre-key": {"1": b"S3CRET old", "2": b"P", "3": b"P"}})
    with capture_logs() as logs:
        store.set("1", {"pre-key": {"1": b"S3CRET new", "2": b"P", "4": b"P"}, "session": {"a": b"A"}}, creds=b"C")
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("pre_key_rewritten", "warning")
    assert (entry["company_id"], entry["count"]) == ("1", 1)
    assert "S3CRET" not in repr(entry)
    assert store.census().pre_keys_rewritten_7d == 1
    assert store.get("1", "pre-key", ["1"]) == {"1": b"S3CRET new"}
    clock.advance(3 * DAY)
    store.set("2", {"pre-key": {"1": b"P"}})
    store.set("2", {"pre-key": {"1": b"Q"}})
    assert store.census().pre_keys_rewritten_7d == 2
    clock.advance(5 * DAY)
    assert store.census().pre_keys_rewritten_7d == 1
    clock.advance(5 * DAY)
    assert store.census().pre_keys_rewritten_7d == 0


def test_a_pre_key_used_or_written_unchanged_does_not_count_as_rewritten(store: Store) -> None:
    store.set("1", {"pre-key": {"1": b"P", "2": b"P"}, "session": {"1": b"A"}})
    with capture_logs() as logs:
        store.set("1", {"pre-key": {"1": None}})
        store.set("1", {"pre-key": {"1": b"Q", "2": b"P"}, "session": {"1": b"B"}})
    assert logs == []
    assert store.census().pre_keys_rewritten_7d == 0
