"""A sealed row that somebody moves, swaps or copies doesn't open, and takes no other value down."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from keystore import CorruptValue, Store
from keystore.sealing.quarantine import MOST_NAMED
from rig.fixtures.clock import Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.sealing.stored import OLD_KEY, execute, forms

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
    """Copy the row of session a of company 1 to a table."""
    execute(store, f"CREATE TABLE older AS SELECT * FROM whatsapp_keys WHERE {NAME.format('1', 'session', 'a')}")


def put_back(store: Store, *columns: str) -> None:
    """Write these columns of the copy over the present ones."""
    for column in columns or ("value",):
        name = NAME.format("1", "session", "a")
        execute(store, f"UPDATE whatsapp_keys SET {column} = (SELECT {column} FROM older) WHERE {name}")


def sessions(store: Store) -> dict[str, bytes]:
    """Return the sessions of company 1, which each kind of read agrees on."""
    loaded = store.load("1").keys.get("session", {})
    assert store.get("1", "session", ["a", "b"]) == loaded
    assert {row.key_id: row.value for row in store.export_rows("1") if row.key_type == "session"} == loaded
    archived = store.snapshot(lambda snapshot: snapshot.company("1").rows)
    assert {row.key_id for row in archived if row.key_type == "session"} == set(loaded)
    return loaded


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
        with pytest.raises(CorruptValue, match=r"^1 creds: it isn't the value that was written last"):
            read("1")
    assert [(value.company_id, value.key_type) for value in sealed.unreadable()] == [("1", "")]


def test_a_company_with_many_unreadable_values_has_the_first_ones_named(sealed: Store) -> None:
    sealed.set("3", {"session": {f"{n}": b"A" for n in range(MOST_NAMED + 10)}})
    execute(sealed, "UPDATE whatsapp_keys SET value = substr(value, 1, 30) WHERE company_id = '3'")
    assert sealed.load("3").keys == {}
    assert len(sealed.unreadable()) == MOST_NAMED


def test_an_older_value_that_is_put_back_is_left_out_and_named(sealed: Store) -> None:
    set_aside(sealed)
    sealed.set("1", {"session": {"a": b"A2"}})
    put_back(sealed)
    with capture_logs() as logs:
        assert sessions(sealed) == {"b": b"B"}
    (event,) = [log for log in logs if log["event"] == "value_unreadable"]
    assert (event["key_type"], event["key_id"]) == ("session", "a")
    (unreadable,) = sealed.unreadable()
    assert "isn't the value that was written last" in unreadable.reason

    sealed.set("1", {"session": {"a": b"A3"}})
    assert sessions(sealed) == {"a": b"A3", "b": b"B"}
    assert sealed.unreadable() == []


def test_older_creds_that_are_put_back_are_refused(sealed: Store) -> None:
    execute(sealed, "CREATE TABLE older AS SELECT * FROM whatsapp_auth WHERE company_id = '1'")
    sealed.set("1", {}, creds=b'{"n":2}')
    execute(sealed, "UPDATE whatsapp_auth SET creds = (SELECT creds FROM older) WHERE company_id = '1'")
    for read in (sealed.load, sealed.get_creds):
        with pytest.raises(CorruptValue, match=r"^1 creds: it isn't the value that was written last"):
            read("1")
    assert [value.key_type for value in sealed.unreadable()] == [""]
    sealed.set("1", {}, creds=b'{"n":3}')
    assert sealed.get_creds("1") == b'{"n":3}'
    assert sealed.unreadable() == []


@pytest.mark.parametrize("replacing", ["clear", "import"])
@pytest.mark.parametrize("what", ["a key", "the creds"])
def test_a_value_that_was_put_back_does_not_come_back_from_the_trash(sealed: Store, replacing: str, what: str) -> None:
    set_aside(sealed)
    execute(sealed, "CREATE TABLE older_creds AS SELECT * FROM whatsapp_auth WHERE company_id = '1'")
    sealed.set("1", {"session": {"a": b"A2"}}, creds=b'{"n":2}')
    if what == "a key":
        put_back(sealed)
    else:
        execute(sealed, "UPDATE whatsapp_auth SET creds = (SELECT creds FROM older_creds) WHERE company_id = '1'")
    if replacing == "clear":
        sealed.clear("1")
    else:
        sealed.restore_rows("1", [], removed=[("sender-key", "a")])
    (deletion,) = sealed.deletions("1")
    if what == "the creds":
        with pytest.raises(CorruptValue, match=r"^1 creds: it isn't the value that was written last"):
            sealed.deleted_state(deletion)
        return
    creds, rows = sealed.deleted_state(deletion)
    assert creds == b'{"n":2}'
    assert {(row.key_type, row.value) for row in rows} == {("session", b"B"), ("sender-key", b"S")}


def test_a_repair_moves_no_value_that_was_put_back(sealed: Store) -> None:
    set_aside(sealed)
    sealed.set("1", {"session": {"a": b"A2"}})
    put_back(sealed)
    (key,) = [key for key in sealed.key_names(["session"]) if (key.company_id, key.key_id) == ("1", "a")]
    assert not sealed.move_key(key, "session", "c")
    assert sessions(sealed) == {"b": b"B"}
    assert [value.key_id for value in sealed.unreadable()] == ["a"]


def test_a_table_with_an_enforced_expiry_keeps_the_nonces(sealed: Store) -> None:
    sealed.enforce_expiry()
    assert len(forms(sealed)) == 8


def test_whoever_puts_the_nonce_back_too_is_not_noticed(sealed: Store) -> None:
    """The limit that docs/sealing.md names: the row is then as it was."""
    set_aside(sealed)
    sealed.set("1", {"session": {"a": b"A2"}})
    put_back(sealed, "value", "value_nonce")
    assert sessions(sealed) == {"a": b"A", "b": b"B"}


def test_a_plain_value_of_another_program_and_a_row_without_a_nonce_are_read(sealed: Store) -> None:
    execute(sealed, f"UPDATE whatsapp_keys SET value_nonce = NULL WHERE {NAME.format('1', 'session', 'a')}")
    assert sessions(sealed)["a"] == b"A", "written by an earlier version"
    sealed.set("1", {"lid-mapping": {"1": b'"2"'}})
    execute(sealed, COPY.format(source=NAME.format("1", "lid-mapping", "1"), target=NAME.format("1", "session", "b")))
    assert sessions(sealed)["b"] == b'"2"'


def test_an_older_value_from_before_a_purge_does_not_open(sealed: Store) -> None:
    set_aside(sealed)
    sealed.purge("1")
    sealed.set("1", {"session": {"a": b"A2"}})
    put_back(sealed, "value", "value_nonce")
    assert sealed.get("1", "session", ["a"]) == {}
    assert len(sealed.unreadable()) == 1
