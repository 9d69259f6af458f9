"""`repair` on real stores: mis-split rows move to their type, and newer rows stay."""

from datetime import timedelta

from keystore import Store
from monitor.upkeep.demo import seed
from monitor.upkeep.repair import Move, repair_rows
from rig.fixtures.clock import Clock

DAY = timedelta(days=1)


def test_every_kind_of_mis_split_row_moves_to_its_type(store: Store) -> None:
    store.set(
        "1",
        {
            "lid": {"mapping-123": b"A", "other": b"stays"},
            "pre": {"key-12": b"B"},
            "app": {"state-sync-key-AA__B": b"C", "state-sync-version-regular": b"D"},
            "sender": {"key-49-16@g.us--7926--0": b"E", "key-memory-49-16@g.us": b"F"},
            "device": {"list-7926": b"G"},
            "identity": {"key-7926.0": b"H"},
            "session": {"7926.0": b"I"},
            "sender-key": {"12@g.us::7926::0": b"J"},
        },
    )
    store.set("2", {"lid": {"mapping-123": b"K"}})
    progress: list[tuple[int, int]] = []
    report = repair_rows(store, progress=lambda done, total: progress.append((done, total)))
    assert store.load("1").keys == {
        "lid": {"other": b"stays"},
        "lid-mapping": {"123": b"A"},
        "pre-key": {"12": b"B"},
        "app-state-sync-key": {"AA/B": b"C"},
        "app-state-sync-version": {"regular": b"D"},
        "sender-key": {"49-16@g.us::7926::0": b"E", "12@g.us::7926::0": b"J"},
        "sender-key-memory": {"49-16@g.us": b"F"},
        "device-list": {"7926": b"G"},
        "identity-key": {"7926.0": b"H"},
        "session": {"7926.0": b"I"},
    }
    assert store.load("2").keys == {"lid-mapping": {"123": b"K"}}
    assert report.database == store.database
    assert (report.moved, report.kept, report.dry_run) == (9, (), False)
    assert report.by_type["lid → lid-mapping"] == 2
    assert report.by_type["sender → sender-key-memory"] == 1
    assert progress == [(done, 9) for done in range(1, 10)]


def test_rows_keep_their_times(store: Store, clock: Clock) -> None:
    store.set("1", {"lid": {"mapping-123": b"A"}})
    (before,) = store.export_rows("1")
    clock.advance(3 * DAY)
    repair_rows(store)
    (after,) = store.export_rows("1")
    assert (after.created_at, after.updated_at, after.expires_at) == (
        before.created_at,
        before.updated_at,
        before.expires_at,
    )


def test_a_newer_row_stays_and_the_old_one_is_reported(store: Store, clock: Clock) -> None:
    store.set("1", {"lid": {"mapping-1": b"old", "mapping-2": b"new"}, "lid-mapping": {"3": b"as old"}})
    store.set("1", {"lid": {"mapping-3": b"same moment"}})
    clock.advance(DAY)
    store.set("1", {"lid-mapping": {"1": b"newer"}})
    before = store.export_rows("1")
    staying = (
        Move("1", "lid", "mapping-1", "lid-mapping", "1"),
        Move("1", "lid", "mapping-3", "lid-mapping", "3"),
    )
    planned = repair_rows(store, dry_run=True)
    assert (planned.moved, planned.kept, store.export_rows("1") == before) == (1, staying, True)
    report = repair_rows(store)
    assert (report.moved, report.kept) == (1, staying)
    assert store.load("1").keys == {
        "lid": {"mapping-1": b"old", "mapping-3": b"same moment"},
        "lid-mapping": {"1": b"newer", "2": b"new", "3": b"as old"},
    }


def test_of_two_rows_with_one_destination_the_newer_wins(store: Store, clock: Clock) -> None:
    store.set("1", {"app-state": {"sync-key-X": b"older"}, "app": {"state-sync-key-Y": b"older"}})
    clock.advance(DAY)
    store.set("1", {"app": {"state-sync-key-X": b"newer"}, "app-state": {"sync-key-Y": b"newer"}})
    planned = repair_rows(store, dry_run=True)
    report = repair_rows(store)
    assert store.load("1").keys == {
        "app-state": {"sync-key-X": b"older"},
        "app-state-sync-key": {"X": b"newer", "Y": b"newer"},
    }
    assert (report.moved, report.moves, report.kept) == (planned.moved, planned.moves, planned.kept)
    assert report.kept == (Move("1", "app-state", "sync-key-X", "app-state-sync-key", "X"),)


def test_a_dry_run_lists_the_172_demo_rows_and_changes_nothing(store: Store) -> None:
    seed(store, "demo")
    before = store.export_rows("demo")
    report = repair_rows(store, dry_run=True)
    assert (report.moved, report.by_type, report.dry_run) == (172, {"lid → lid-mapping": 172}, True)
    assert all(move.to_id == move.key_id.removeprefix("mapping-") for move in report.moves)
    assert len(report.moves) == 172
    assert store.export_rows("demo") == before


def test_a_second_run_changes_nothing(store: Store) -> None:
    seed(store, "demo")
    assert repair_rows(store).moved == 172
    before = store.export_rows("demo")
    again = repair_rows(store)
    assert (again.moved, again.by_type, again.moves, again.kept) == (0, {}, (), ())
    assert store.export_rows("demo") == before
