"""A sealed row that somebody moves, swaps or copies doesn't open, and takes no other value down."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from keystore import CorruptValue, Store
from keystore.sealing.quarantine import MOST_NAMED
from rig.fixtures.clock import Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.sealing.stored import OLD_KEY, execute

pytestmark = pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)

COPY = "UPDATE whatsapp_keys SET value = (SELECT value FROM whatsapp_keys WHERE {source}) WHERE {target}"
NAME = "company_id = '{}' AND key_type = '{}' AND key_id = '{}'"


@pytest.fixture
def sealed(make_store: MakeStore, clock: Clock) -> Store:
    """A store that seals values, with the keys of two companies."""
    store = make_store(clock=clock, secret_keys=OLD_KEY)
    for company in ("1", "2"):
        store.set(company, {"session": {"a": b"A", "b": b"B"}, "sender-key": {"a": b"S"}}, creds=b"{}")
    return store


def set_aside(store: Store) -> None:
    """Copy the stored form of session a of company 1 to a table."""
    execute(store, f"CREATE TABLE older AS SELECT value FROM whatsapp_keys WHERE {NAME.format('1', 'session', 'a')}")


def put_back(store: Store) -> None:
    """Write the copy over the present form."""
    name = NAME.format("1", "session", "a")
    execute(store, f"UPDATE whatsapp_keys SET value = (SELECT value FROM older) WHERE {name}")


@pytest.mark.parametrize(
    "source",
    [("1", "session", "b"), ("1", "sender-key", "a"), ("2", "session", "a")],
    ids=["another id", "another type", "another company"],
)
def test_a_row_with_another_rows_value_is_refused(sealed: Store, source: tuple[str, str, str]) -> None:
    execute(sealed, COPY.format(source=NAME.format(*source), target=NAME.format("1", "session", "a")))
    with capture_logs() as logs:
        assert sealed.load("1").keys == {"session": {"b": b"B"}, "sender-key": {"a": b"S"}}
        assert sealed.get("1", "session", ["a", "b"]) == {"b": b"B"}
        assert [row.key_id for row in sealed.export_rows("1") if row.key_type == "session"] == ["b"]
    assert sealed.load("2").total == 3
    (event,) = [log for log in logs if log["event"] == "value_unreadable"]
    assert (event["company_id"], event["key_type"], event["key_id"]) == ("1", "session", "a")
    (unreadable,) = sealed.unreadable()
    assert (unreadable.company_id, unreadable.key_type, unreadable.key_id) == ("1", "session", "a")


def test_a_changed_value_is_named_until_its_bot_writes_it_again(sealed: Store, clock: Clock) -> None:
    execute(sealed, f"UPDATE whatsapp_keys SET value = substr(value, 1, 30) WHERE {NAME.format('1', 'session', 'a')}")
    sealed.load("1")
    assert len(sealed.unreadable()) == len(sealed.unreadable()) == 1
    clock.advance(timedelta(days=400))
    lease = sealed.acquire_lease("sweep", "here", 60)
    assert lease is not None
    swept = sealed.sweep_companies(lease, sealed.start_sweep("here"), ["1"], 60)
    assert swept.by_type["session"] == 1, "the unreadable key stays for inspection"
    assert len(sealed.unreadable()) == 1
    sealed.set("1", {"session": {"a": b"A2"}})
    assert sealed.unreadable() == []
    assert sealed.get("1", "session", ["a"]) == {"a": b"A2"}


def test_creds_that_do_not_open_are_an_error_and_named(sealed: Store) -> None:
    execute(
        sealed,
        "UPDATE whatsapp_auth SET creds = (SELECT creds FROM whatsapp_auth WHERE company_id = '2') "
        "WHERE company_id = '1'",
    )
    for read in (sealed.load, sealed.get_creds):
        with pytest.raises(CorruptValue, match=r"^1 creds: it doesn't open"):
            read("1")
    assert [(value.company_id, value.key_type) for value in sealed.unreadable()] == [("1", "")]


def test_a_company_with_many_unreadable_values_has_the_first_ones_named(sealed: Store) -> None:
    sealed.set("3", {"session": {f"{n}": b"A" for n in range(MOST_NAMED + 10)}})
    execute(sealed, "UPDATE whatsapp_keys SET value = substr(value, 1, 30) WHERE company_id = '3'")
    assert sealed.load("3").keys == {}
    assert len(sealed.unreadable()) == MOST_NAMED


def test_an_older_value_of_the_same_key_opens(sealed: Store) -> None:
    """A bot's numbered writes detect that a whole database went back; of one row nobody knows which value was last."""
    set_aside(sealed)
    sealed.set("1", {"session": {"a": b"A2"}})
    execute(
        sealed, f"UPDATE whatsapp_keys SET value = (SELECT value FROM older) WHERE {NAME.format('1', 'session', 'a')}"
    )
    assert sealed.get("1", "session", ["a"]) == {"a": b"A"}
    assert sealed.unreadable() == []


def test_an_older_value_from_before_a_purge_does_not_open(sealed: Store) -> None:
    set_aside(sealed)
    sealed.purge("1")
    sealed.set("1", {"session": {"a": b"A2"}})
    execute(
        sealed, f"UPDATE whatsapp_keys SET value = (SELECT value FROM older) WHERE {NAME.format('1', 'session', 'a')}"
    )
    assert sealed.get("1", "session", ["a"]) == {}
    assert len(sealed.unreadable()) == 1
