"""Waiting notices are stored in the database: they survive a restart, and pass to the process that takes over."""

import json
from time import monotonic

import pytest
from structlog.testing import capture_logs

from keystore import Store, open_store
from monitor.alerts.outbox import NotDelivered, Outbox, Undeliverable
from monitor.note_names import OUTBOX
from rig.fixtures.clock import Clock
from rig.relay import Relay
from rig.waiting import eventually
from tests.monitor.alerts.watches import MINUTE, Blocked

A, B = 11, -22


class Chats:
    """Chats that can be out of reach."""

    def __init__(self) -> None:
        self.got: dict[int, list[str]] = {A: [], B: []}
        self.away: set[int] = set()
        self.refusing: set[int] = set()

    def __call__(self, chat: int, text: str) -> None:
        if chat in self.refusing:
            raise Undeliverable("403 blocked")
        if chat in self.away:
            raise NotDelivered(0)
        self.got[chat].append(text)


@pytest.fixture
def chats() -> Chats:
    return Chats()


def outbox_in(store: Store | None, chats: Chats, clock: Clock) -> Outbox[int]:
    """A process's outbox, after its start."""
    outbox = Outbox(chats, (A, B), clock=clock)
    outbox.keep_in(store)
    return outbox


def test_undelivered_notices_are_delivered_after_a_restart_in_order(store: Store, clock: Clock, chats: Chats) -> None:
    chats.away = {A, B}
    killed = outbox_in(store, chats, clock)
    killed.post("one", "two")
    killed.deliver_due()
    killed.post("three")
    killed.deliver_due()
    chats.away = {B}
    clock.advance(10 * MINUTE)
    again = outbox_in(store, chats, clock)
    again.post("four")
    again.deliver_due()
    when = "[2025-10-08 09:41 UTC] "
    assert chats.got[A] == [f"{when}one\n\n{when}two\n\n{when}three\n\nfour"]
    chats.away = set()
    third = outbox_in(store, chats, clock)
    third.deliver_due()
    assert chats.got[B] == [f"{when}one\n\n{when}two\n\n{when}three\n\nfour"]
    assert len(chats.got[A]) == 1, "a delivered notice isn't delivered again"
    assert store.recall(OUTBOX) is None, "nothing waits"


def test_a_notice_is_stored_before_it_is_tried(store: Store, clock: Clock) -> None:
    """A process that is killed during a delivery loses nothing."""
    documents: list[str] = []

    def deliver(*_: object) -> None:
        note = store.recall(OUTBOX)
        documents.append("" if note is None else note.document)

    outbox = Outbox(deliver, [A], clock=clock)
    outbox.keep_in(store)
    outbox.post("one")
    outbox.deliver_due()
    assert [entry[1] for entry in json.loads(documents[0])[f"{A}"]["entries"]] == ["one"]


def test_stopping_stores_undelivered_notices(store: Store, clock: Clock, chats: Chats) -> None:
    chats.away = {A}
    outbox = outbox_in(store, chats, clock)
    outbox.start()
    outbox.post("goodbye")
    assert outbox.stop(10)
    chats.away = set()
    outbox_in(store, chats, clock).deliver_due()
    assert chats.got == {A: ["goodbye"], B: ["goodbye"]}


def test_a_refusal_survives_a_restart(store: Store, clock: Clock, chats: Chats) -> None:
    chats.refusing = {A}
    killed = outbox_in(store, chats, clock)
    killed.post("one")
    killed.deliver_due()
    chats.refusing = set()
    again = outbox_in(store, chats, clock)
    again.post("two")
    again.deliver_due()
    assert chats.got == {A: ["(1 older notice was dropped: 403 blocked.)\n\ntwo"], B: ["one", "two"]}
    assert store.recall(OUTBOX) is None


def test_the_number_of_dropped_notices_survives_a_restart(store: Store, clock: Clock, chats: Chats) -> None:
    chats.away = {A}
    outbox = outbox_in(store, chats, clock)
    outbox.post(*(f"{n}" for n in range(207)))
    outbox.deliver_due()
    chats.away = set()
    outbox_in(store, chats, clock).deliver_due()
    assert chats.got[A][0].startswith("(7 older notices were dropped")


def test_a_removed_chat_is_left_out(store: Store, clock: Clock, chats: Chats) -> None:
    chats.away = {A, B}
    outbox = outbox_in(store, chats, clock)
    outbox.post("one")
    outbox.deliver_due()
    chats.away = set()
    fewer = Outbox(chats, [B], clock=clock)
    fewer.keep_in(store)
    fewer.deliver_due()
    assert chats.got == {A: [], B: ["one"]}
    assert store.recall(OUTBOX) is None


def test_handing_over_leaves_the_stored_notices_and_delivers_the_others(
    store: Store, clock: Clock, chats: Chats
) -> None:
    chats.away = {A, B}
    old = outbox_in(store, chats, clock)
    old.post("kept")
    old.deliver_due()
    old.post("not kept yet")
    old.keep_in(None)
    chats.away = set()
    new = outbox_in(store, chats, clock)
    new.deliver_due()
    old.deliver_due()
    assert chats.got[A] == ["kept", "not kept yet"]


def test_a_frozen_database_holds_up_neither_posting_nor_delivery(
    relay: Relay, migrated_postgres_url: str, clock: Clock, chats: Chats
) -> None:
    with open_store(relay.url(migrated_postgres_url), clock=clock) as store:
        outbox = outbox_in(store, chats, clock)
        outbox.start()
        outbox.post("before")
        eventually(lambda: chats.got[B] == ["before"], "the first is delivered")
        with relay.swallowing(), capture_logs() as logs:
            began = monotonic()
            outbox.post("database away")
            assert monotonic() - began < 2
            eventually(lambda: chats.got[B][-1] == "database away", "it is delivered", within_s=5)
            assert outbox.stop(10)
        assert "outbox_not_saved" in [entry["event"] for entry in logs]


def test_stopping_ends_in_time_when_database_and_delivery_hang(
    relay: Relay, migrated_postgres_url: str, clock: Clock
) -> None:
    with open_store(relay.url(migrated_postgres_url), clock=clock) as store, relay.swallowing():
        blocked = Blocked()
        outbox = Outbox(blocked, [A], clock=clock)
        outbox.keep_in(store)
        outbox.start()
        outbox.post("one")
        assert blocked.began.wait(10)
        began = monotonic()
        assert not outbox.stop(0.5)
        assert monotonic() - began < 2
        blocked.release.set()
        assert outbox.stop(10)
