"""Notes by name, and series over time that are thinned."""

from datetime import UTC, datetime, timedelta

from keystore import Store
from keystore.records import HistoryEntry, Note
from rig.fixtures.clock import START, Clock


def test_a_note_is_replaced_and_deleted(store: Store, clock: Clock) -> None:
    assert store.recall("a") is None
    store.remember("a", "one")
    later = clock.advance(timedelta(minutes=5))
    store.remember("a", "two – ü")
    assert store.recall("a") == Note("two – ü", later)
    store.remember("a", None)
    store.remember("a", None)
    assert store.recall("a") is None


def test_notes_are_found_by_the_prefix_of_their_names(store: Store) -> None:
    for name in ("memory/1", "memory/2", "memo", "MEMORY/3", "mem%ry/4"):
        store.remember(name, name.upper())
    assert {name: note.document for name, note in store.notes("memory/").items()} == {
        "memory/1": "MEMORY/1",
        "memory/2": "MEMORY/2",
    }
    assert store.notes("mem%") == {"mem%ry/4": store.notes("mem%ry/4")["mem%ry/4"]}


def test_a_series_is_oldest_first_with_one_entry_for_each_time(store: Store) -> None:
    hours = [START + timedelta(hours=n) for n in range(3)]
    for at in reversed(hours):
        store.add_history("census", at, f"{at}")
    store.add_history("census", hours[1], "again")
    store.add_history("lives", hours[1], "another series")
    assert store.history("census", hours[1]) == [
        HistoryEntry(hours[1], "again"),
        HistoryEntry(hours[2], f"{hours[2]}"),
    ]


def test_thinning_keeps_the_first_of_each_day_and_deletes_the_old(store: Store) -> None:
    midnight = datetime(2025, 10, 1, tzinfo=UTC)
    times = [midnight + timedelta(hours=n) for n in range(0, 4 * 24, 5)]
    for at in times:
        store.add_history("census", at, "x")
    store.add_history("lives", midnight, "untouched")
    store.thin_history("census", midnight + timedelta(days=3), midnight + timedelta(days=1))
    left = [entry.at for entry in store.history("census", midnight)]
    expected = [at for at in times if at >= midnight + timedelta(days=3)]
    firsts = [min(at for at in times if at.date() == (midnight + timedelta(days=day)).date()) for day in (1, 2)]
    assert left == firsts + expected
    assert len(store.history("lives", midnight)) == 1
