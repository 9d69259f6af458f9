"""The lifetimes of keys stand in the database, for everybody who writes there."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from keystore import SchemaMismatch, open_store, ttl
from keystore.ids import KNOWN_TYPES, MAX_OTHER_TYPES
from keystore.sql.policy_table import policy_of_rows, policy_rows
from keystore.ttl import CAREFUL, DEFAULT, DIARY, GUARDS, NEVER, PRE_KEYS_KEPT, Policy, parse_policy
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.links import postgres_link

Rows = Callable[[str, str], list[tuple[Any, ...]]]

LIFETIMES = st.one_of(st.just(NEVER), st.integers(1, 10**9).map(float))
POLICIES = st.builds(
    Policy,
    st.dictionaries(st.sampled_from(sorted(KNOWN_TYPES)), LIFETIMES),
    st.lists(st.tuples(st.sampled_from(["lid-mapping", "sync"]), LIFETIMES), max_size=2).map(tuple),
    LIFETIMES,
)


@given(POLICIES)
def test_a_policy_comes_back_from_its_rows(policy: Policy) -> None:
    rows = policy_rows(policy)
    assert policy_of_rows([(row["key_type"], row["matches"], row["ttl_s"]) for row in rows]) == policy


def test_a_store_without_a_policy_takes_the_one_in_the_database(make_store: MakeStore, store_url: str) -> None:
    assert make_store().policy == DIARY
    make_store(policy=CAREFUL)
    with open_store(store_url) as store, open_store(store_url, create=False) as report:
        assert store.policy == report.policy == CAREFUL


@pytest.mark.parametrize("policy", [None, DIARY, CAREFUL])
def test_a_new_database_begins_with_its_policy_and_logs_no_change(tmp_path: Path, policy: Policy | None) -> None:
    with capture_logs() as logs, open_store(f"sqlite:///{tmp_path}/k.db", policy=policy) as store:
        assert store.policy == (policy or DEFAULT)
    assert [log for log in logs if log["event"] == "policy_changed"] == []


def test_a_change_is_logged_with_the_old_and_the_new_lifetimes(make_store: MakeStore) -> None:
    make_store()
    with capture_logs() as logs:
        make_store()
        make_store(policy=parse_policy("diary,session=90s,tctoken=never,default=36h"))
    (change,) = [log for log in logs if log["event"] == "policy_changed"]
    assert change["old"] == "pre-key=7d,sender-key=7d,session=7d,*lid-mapping*=7d,default=14d"
    assert change["new"] == "pre-key=7d,sender-key=7d,session=90s,tctoken=never,*lid-mapping*=7d,default=36h"


def test_a_change_is_seen_by_every_open_store(
    make_store: MakeStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(clock=clock)
    store.set("1", {"session": {"a": b"A"}})
    make_store(policy=CAREFUL)
    monkeypatch.setattr("keystore.sqlite.queries.POLICY_READ_EVERY_S", 0.0)
    assert store.policy == CAREFUL
    store.set("1", {"session": {"a": b"A"}})
    assert store.export_rows("1")[0].expires_at == ttl.expires_at(CAREFUL, "session", START)


def test_a_report_on_a_database_without_lifetimes_says_what_to_do(
    migrated_postgres_url: str, database_rows: Rows
) -> None:
    database_rows(migrated_postgres_url, "DELETE FROM keystore_policy RETURNING 1")
    with pytest.raises(SchemaMismatch, match=r"no lifetimes; run `python run.py migrate`"):
        open_store(migrated_postgres_url, create=False)


def test_a_write_without_lifetimes_is_a_mismatch(migrated_postgres_url: str, database_rows: Rows) -> None:
    with open_store(migrated_postgres_url) as store:
        database_rows(migrated_postgres_url, "DELETE FROM keystore_policy RETURNING 1")
        with pytest.raises(SchemaMismatch, match="keystore_policy has no lifetime for the type session"):
            store.set("1", {"session": {"a": b"A"}})


@pytest.mark.parametrize("policy", [DIARY, CAREFUL, Policy({"x": 1.0}, (("y", 90.0), ("yz", 3_600.0)), 7_777.0)])
def test_the_functions_compute_what_python_computes(migrated_postgres_url: str, policy: Policy) -> None:
    types = [*sorted(KNOWN_TYPES), "x", "xyz", "y", "lid-mapping-old"]
    with open_store(migrated_postgres_url, policy=policy) as store:
        for seconds in (0, 0.25, 59.999999, 86_399, 86_400, 1e7):
            now = START + timedelta(seconds=seconds)
            params = {"types": types, "now": now}
            rows = postgres_link(store).rows(
                "SELECT nullif(keystore_expiry(t, %(now)s), 'infinity'), "
                "nullif(keystore_half_life_from(l.ttl_s, %(now)s), 'infinity') "
                "FROM unnest(%(types)s::text[]) AS t, keystore_life(t) AS l",
                params,
            )
            assert rows == [
                (ttl.expires_at(policy, name, now), ttl.renewed_before(policy, name, now)) for name in types
            ]


def test_the_functions_know_the_same_types(migrated_postgres_url: str) -> None:
    types = [*sorted(KNOWN_TYPES), "x", "session ", "Session", ""]
    with open_store(migrated_postgres_url) as store:
        rows = postgres_link(store).rows(
            "SELECT keystore_known_type(t), keystore_most_other_types() FROM unnest(%(types)s::text[]) AS t",
            {"types": types},
        )
    assert rows == [(name in KNOWN_TYPES, MAX_OTHER_TYPES) for name in types]


def test_the_functions_know_the_same_guards(migrated_postgres_url: str) -> None:
    types = [*sorted(KNOWN_TYPES), "x"]
    with open_store(migrated_postgres_url) as store:
        rows = postgres_link(store).rows(
            "SELECT keystore_guard(t), keystore_pre_keys_kept() FROM unnest(%(types)s::text[]) AS t", {"types": types}
        )
    assert rows == [(GUARDS.get(name), PRE_KEYS_KEPT) for name in types]
