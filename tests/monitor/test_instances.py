"""The services of one database, by the notes that they leave."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import Store, open_store
from monitor.instances import FORGOTTEN_AFTER, SEEN_FOR, Instance, InstanceNote, alerting_instance, instances
from monitor.note_names import INSTANCE
from rig.fixtures.clock import START, Clock

FIRST = Instance("vm1:8080", "bots", "vm1", "1.0", START, 2)
SECOND = replace(FIRST, address="vm2:8080", host="vm2")


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """A store with the test's clock."""
    with open_store(f"sqlite:///{tmp_path}/k.db", clock=clock) as store:
        yield store


def test_each_service_is_known_with_its_role_and_its_last_look(store: Store, clock: Clock) -> None:
    InstanceNote(store, FIRST).renew(alerting=True)
    clock.advance(timedelta(minutes=1))
    InstanceNote(store, SECOND).renew(alerting=False)
    known = instances(store)
    assert known == [
        replace(FIRST, alerting=True, looked_at=START),
        replace(SECOND, alerting=False, looked_at=START + timedelta(minutes=1)),
    ]
    assert alerting_instance(known, store.now()) == known[0]
    clock.advance(SEEN_FOR)
    assert alerting_instance(instances(store), store.now()) is None, "it hasn't looked for too long"


def test_a_service_that_stopped_is_forgotten_at_once_or_after_an_hour(store: Store, clock: Clock) -> None:
    stopped, killed = InstanceNote(store, FIRST), InstanceNote(store, SECOND)
    stopped.renew(alerting=True)
    killed.renew(alerting=False)
    stopped.remove()
    assert [each.address for each in instances(store)] == ["vm2:8080"]
    clock.advance(FORGOTTEN_AFTER + timedelta(seconds=1))
    assert instances(store) == []
    assert store.notes(INSTANCE) == {}


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"started_at": "x"}', '{"started_at": 3, "more": 1}'])
def test_a_note_of_another_version_is_passed_over(store: Store, document: str) -> None:
    store.remember(f"{INSTANCE}vm3:8080", document)
    InstanceNote(store, FIRST).renew(alerting=True)
    assert [each.address for each in instances(store)] == ["vm1:8080"]


def test_an_outage_is_left_to_the_watch(store: Store) -> None:
    note = InstanceNote(store, FIRST)
    note.renew(alerting=True)
    store.close()
    note.renew(alerting=True)
    note.remove()
