"""The sweeper on real databases: one run, its lease, its record, and failures."""

import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from keystore import SchemaMismatch, Store, StoreUnavailable, open_store
from keystore.records import DueSessions, Lease, SweepRun
from keystore.sql.store import SqlStore
from monitor import sweeper
from monitor.running.clock_steps import ClockLead
from monitor.sweeper import LONGEST_REST_S, sweep
from rig.fixtures.clock import Clock, Ticks
from rig.relay import Relay
from rig.waiting import eventually

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


def fill_with_expired(store: Store, clock: Clock, companies: int, keys: int = 3) -> None:
    for n in range(companies):
        store.set(f"c{n:03}", {"session": {f"{key}": b"A" for key in range(keys)}, "device-list": {"d": b"D"}})
    clock.advance(8 * DAY)


def test_a_sweep_deletes_the_due_keys_and_reports_them(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=5)
    progress: list[tuple[int, int]] = []
    report = sweep(store, batch_keys=6, progress=lambda done, total: progress.append((done, total)))
    assert (report.deleted, report.by_type, report.skipped, report.stopped) == (15, {"session": 15}, False, False)
    assert report.database == store.database
    assert report.took_ms > 0
    assert progress == [(2, 5), (4, 5), (5, 5)], "companies go in batches of about six keys"
    (run,) = store.sweep_runs(10)
    assert (run.deleted, run.by_type, run.error, run.took_ms) == (15, {"session": 15}, None, report.took_ms)
    assert run.finished_at == clock()
    assert store.census().total == 5


def test_a_second_sweep_finds_nothing(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=2)
    assert sweep(store).deleted == 6
    assert sweep(store).deleted == 0
    assert len(store.sweep_runs(10)) == 2


def test_a_sweep_beside_another_is_skipped_and_leaves_no_record(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=2)
    other = store.acquire_lease(sweeper.LEASE, "other", 60)
    report = sweep(store)
    assert (report.skipped, report.deleted) == (True, 0)
    assert store.sweep_runs(10) == []
    assert other is not None
    store.release_lease(other)
    assert sweep(store).deleted == 6


def test_the_lease_of_a_killed_sweeper_ends_and_the_next_takes_over(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=2)
    assert store.acquire_lease(sweeper.LEASE, "killed", sweeper.LEASE_S) is not None
    clock.advance(timedelta(seconds=sweeper.LEASE_S))
    assert sweep(store).deleted == 6


def test_a_stopped_sweep_ends_between_batches_and_is_no_success(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=4)
    stopping = threading.Event()
    report = sweep(store, batch_keys=3, stopping=stopping, progress=lambda *_: stopping.set())
    assert (report.deleted, report.stopped) == (3, True)
    (run,) = store.sweep_runs(10)
    assert run.error == "stopped before its end"
    assert sweep(store).deleted == 9


def test_a_batch_that_times_out_is_halved(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_with_expired(store, clock, companies=8)
    really = store.sweep_companies
    sizes: list[int] = []

    def slow(lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> SweepRun:
        sizes.append(len(company_ids))
        if len(company_ids) > 2:
            raise StoreUnavailable("no answer in time")
        return really(lease, run, company_ids, ttl_s)

    monkeypatch.setattr(store, "sweep_companies", slow)
    report = sweep(store)
    assert report.deleted == 24
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_a_failure_is_recorded_and_raised_and_frees_the_lease(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_with_expired(store, clock, companies=1)

    def fail(*_: object) -> SweepRun:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "sweep_companies", fail)
        with pytest.raises(StoreUnavailable, match="disk"):
            sweep(store)
    (run,) = store.sweep_runs(10)
    assert run.error == "the disk is full"
    assert sweep(store).deleted == 3, "its lease was given back"


def test_a_trash_that_can_not_be_emptied_is_a_recorded_failure_too(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=2)
    assert isinstance(store, SqlStore)
    store.link.rows("ALTER TABLE keystore_trash RENAME TO elsewhere", {})
    with pytest.raises(SchemaMismatch):
        sweep(store)
    (run,) = store.sweep_runs(10)
    assert run.deleted == 6
    assert run.error is not None
    assert "keystore_trash" in run.error
    assert store.acquire_lease(sweeper.LEASE, "another", 60) is not None


def test_an_outage_during_a_sweep_is_raised_and_the_next_sweep_finishes(
    relay: Relay, migrated_postgres_url: str, clock: Clock
) -> None:
    with open_store(relay.url(migrated_postgres_url), clock=clock) as store:
        fill_with_expired(store, clock, companies=6)
        outage = relay.refusing()
        with capture_logs() as logs, pytest.raises(StoreUnavailable):
            sweep(store, batch_keys=3, progress=lambda *_: outage.__enter__())
        outage.__exit__(None, None, None)
        assert "sweep_failure_not_recorded" in [entry["event"] for entry in logs]
        clock.advance(timedelta(seconds=sweeper.LEASE_S))
        deleted: list[int] = []

        def swept() -> bool:
            with suppress(StoreUnavailable):
                deleted.append(sweep(store).deleted)
            return bool(deleted)

        eventually(swept, "the sweep works again by itself", 30)
        assert deleted == [15]
        assert store.sweep_runs(10)[-1].deleted == 3, "what the first run deleted stands in its record"


def test_the_job_of_the_loop_logs_its_result(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=1)
    with capture_logs() as logs:
        assert sweeper.sweep_and_log(store, threading.Event()) is None
        assert store.acquire_lease(sweeper.LEASE, "other", 60) is not None
        assert sweeper.sweep_and_log(store, threading.Event()) == sweeper.LEASE_S, "it may have died: look again"
    assert [entry["event"] for entry in logs] == ["sweep_finished", "sweep_skipped"]
    assert (logs[0]["deleted"], logs[0]["database"]) == (3, store.database)


def test_a_sweep_deletes_the_keys_that_are_due_now(store: Store, clock: Clock) -> None:
    fill_with_expired(store, clock, companies=3)
    would = sweeper.due_now(store.census())
    assert sweep(store).by_type == would == {"session": 9}


class Rests(threading.Event):
    """Records the rests it was asked for, without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked_s.append(timeout or 0.0)
        return False


@pytest.mark.parametrize("rest", [1e-3, 1e9])
def test_a_sweep_rests_after_each_batch_in_proportion_up_to_a_limit(store: Store, clock: Clock, rest: float) -> None:
    fill_with_expired(store, clock, companies=3)
    rests = Rests()
    assert sweep(store, batch_keys=1, rest=rest, stopping=rests).deleted == 9
    assert rests.asked_s[0] == 0
    assert all(0 < rest_s < 1 if rest < 1 else rest_s == LONGEST_REST_S for rest_s in rests.asked_s[1:])
    assert len(rests.asked_s) == 3


def sessions(store: Store, company: str, number: int) -> None:
    store.set(company, {"session": {f"{n}.0": b"A" for n in range(number)}}, creds=b"C")


def test_a_clock_that_jumps_ahead_deletes_no_session_by_the_scheduled_sweep(store: Store, clock: Clock) -> None:
    sessions(store, "large", 40)
    for n in range(10):
        sessions(store, f"small{n}", 3)
    sessions(store, "cleared", 3)
    store.clear("cleared")
    clock.advance(100 * DAY)
    with capture_logs() as logs:
        assert sweeper.sweep_and_log(store, threading.Event()) is None
    assert [len(store.load(company).keys["session"]) for company in store.companies()] == [40, *[3] * 10]
    assert len(store.deletions()) == 1, "nor does it empty the trash"
    (held,) = [entry for entry in logs if entry["event"] == "sweep_held_back"]
    assert (held["companies"], held["due_sessions"], held["sessions"], held["largest"]) == (11, 70, 70, "large")
    (run,) = store.sweep_runs(10)
    assert (run.deleted, run.error) == (
        0,
        "held back 11 companies that would lose most of their sessions at once: large (40 of 40), small0 (3 of 3), "
        "small1 (3 of 3), small2 (3 of 3), small3 (3 of 3), and 6 more",
    )


def test_nothing_is_deleted_for_as_long_as_the_clock_jumped(store: Store, clock: Clock) -> None:
    ticks = Ticks()
    lead = ClockLead(ticks)

    def days_pass(days: int) -> None:
        clock.advance(days * DAY)
        ticks.now_s += days * DAY.total_seconds()

    def swept() -> str | None:
        sweeper.sweep_and_log(store, threading.Event(), lead)
        return store.sweep_runs(1)[0].error

    store.set("1", {"tctoken": {"a": b"T"}})
    assert swept() is None
    clock.advance(40 * DAY)
    with capture_logs() as logs:
        assert swept() == (
            "held back everything: the database's clock went 40 days ahead at once, so keys seem older than they are"
        )
    assert [entry["event"] for entry in logs] == ["sweep_held_back", "sweep_finished"]
    days_pass(30)
    assert (swept() or "").startswith("held back everything: the database's clock went 10 days ahead")
    assert store.load("1").total == 1
    days_pass(10)
    assert swept() is None
    assert store.load("1").total == 0


def test_a_clock_that_is_set_back_again_lets_sweeps_go_on(store: Store, clock: Clock) -> None:
    lead = ClockLead(Ticks())
    held = []
    for days in (0, 40, -40, -400, 400, 0.9, 0.2):
        clock.advance(days * DAY)
        sweeper.sweep_and_log(store, threading.Event(), lead)
        held.append(store.sweep_runs(1)[0].error is not None)
    assert held == [False, True, False, False, False, False, True]


def test_a_scheduled_sweep_holds_one_company_back_and_sweeps_the_others(store: Store, clock: Clock) -> None:
    sessions(store, "ended", 30)
    sessions(store, "busy", 60)
    sessions(store, "few", 4)
    clock.advance(6 * DAY)
    store.set("busy", {"session": {f"{n}.0": b"B" for n in range(50)}})
    clock.advance(2 * DAY)
    assert sweep(store, holding_back=True).by_type == {"session": 14}
    assert [len(store.load(company).keys.get("session", {})) for company in ("ended", "busy", "few")] == [30, 50, 0]
    by_hand = sweep(store)
    assert (by_hand.deleted, by_hand.held_back) == (30, False)
    assert by_hand.losing_most == (DueSessions("ended", 30, 30),), "it says so"
    assert [run.error is None for run in store.sweep_runs(10)] == [True, False]


def test_a_company_that_uses_its_sessions_again_is_swept_again(store: Store, clock: Clock) -> None:
    sessions(store, "away", 40)
    clock.advance(8 * DAY)
    assert sweep(store, holding_back=True).deleted == 0
    store.get("away", "session", [f"{n}.0" for n in range(21)])
    report = sweep(store, holding_back=True)
    assert (report.deleted, report.held_back) == (19, False)
