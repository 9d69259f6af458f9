"""Writes of several companies in one call: each is all or nothing by itself, and has an outcome of its own."""

from datetime import timedelta

import pytest

from keystore import InvalidInput, LeaseLost, QuotaExceeded, Store
from keystore.records import Quota, Write
from rig.fixtures.clock import Clock
from tests.conformance.conftest import MakeStore


def test_each_company_gets_its_own_outcome(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, quota=Quota(keys=2))
    store.set("4", {"session": {"a": b"A"}})
    epoch = store.lease_company("2", "holder", 600).epoch
    many: dict[str, bytes | None] = {"1": b"1", "2": b"2", "3": b"3"}
    outcomes = store.set_all(
        [
            Write("1", {"session": {"a": b"A"}, "pre-key": {"7": b"P"}}, b"C"),
            Write("2", {"session": {"a": b"A"}}, b"C"),
            Write("3", {"lid-mapping": many}, b"C"),
            Write("4", {"session": {"a": None, "b": b"B"}}),
            Write("5", {"session": {"": b"A"}}),
            Write("6", {}),
            Write("7", {"session": {"a": b"A"}}, epoch=9, seq=1),
        ]
    )
    expected = [None, LeaseLost, QuotaExceeded, None, InvalidInput, None, LeaseLost]
    assert [outcome and type(outcome) for outcome in outcomes] == expected
    assert store.load("1").keys == {"session": {"a": b"A"}, "pre-key": {"7": b"P"}}
    assert store.get_creds("1") == b"C"
    for refused in ("2", "3", "5", "7"):
        assert (store.load(refused).total, store.get_creds(refused)) == (0, None)
    assert store.load("4").keys == {"session": {"b": b"B"}}
    assert store.set_all([Write("2", {"session": {"a": b"A"}}, epoch=epoch, seq=1)]) == [None]
    assert store.load("2").seq == 1


def test_a_repetition_is_written_once_and_what_arrives_late_not_at_all(store: Store) -> None:
    epochs = {company: store.lease_company(company, "holder", 600).epoch for company in ("1", "2")}

    def write(value: bytes, seq: int) -> list[Write]:
        return [Write(company, {"session": {"a": value}}, None, epoch, seq) for company, epoch in epochs.items()]

    for value, seq in ((b"1", 1), (b"2", 2), (b"2", 2), (b"1", 1)):
        assert store.set_all(write(value, seq)) == [None, None]
    for company in epochs:
        assert (store.load(company).keys, store.load(company).seq) == ({"session": {"a": b"2"}}, 2)


def test_the_events_of_all_are_counted(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    store.set_all([Write("1", {"session": {"a": b"B", "b": b"B"}}), Write("2", {"session": {"a": b"A"}})])
    store.set_all([Write("2", {"session": {"a": None}})])
    counted = {(count.event, count.key_type): count.keys for count in store.counts(clock() - timedelta(hours=1))}
    assert counted == {("created", "session"): 3, ("renewed", "session"): 1, ("deleted", "session"): 1}


def test_a_company_is_there_once(store: Store) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        store.set_all([Write("1", {"session": {"a": b"A"}}), Write("company_1", {"session": {"b": b"B"}})])
    assert store.load("1").total == 0
    assert store.set_all([]) == []


def test_two_hundred_companies_are_one_call(store: Store) -> None:
    writes = [Write(f"c{number}", {"session": {"a": b"%d" % number, "b": b"B"}}, b"C") for number in range(200)]
    assert store.set_all(writes) == [None] * 200
    assert store.census().total == 400
    assert store.load("c150").keys == {"session": {"a": b"150", "b": b"B"}}
