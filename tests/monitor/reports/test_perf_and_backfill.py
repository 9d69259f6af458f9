"""`perf` and `backfill` on real databases: their reports, and that perf leaves nothing behind."""

import json

import pytest

from keystore import InvalidInput, Store, StoreUnavailable
from keystore.records import KeyRow
from keystore.tally import PROBE_COMPANY
from monitor.reports.perf import perf_report
from monitor.upkeep.backfill import backfill_expiries
from rig.fixtures.clock import START


def lacking(count: int, key_type: str = "session") -> list[KeyRow]:
    return [KeyRow(key_type, f"{n}", b"value", START, START, None) for n in range(count)]


def test_perf_times_the_largest_company_and_leaves_no_trace(store: Store) -> None:
    store.set("small", {"session": {"a": b"A"}})
    store.set("large", {"session": {f"{n}": b"AB" for n in range(50)}}, creds=json.dumps({}).encode())
    before = [store.export_rows(company) for company in store.companies()]
    progress: list[tuple[int, int]] = []
    report = perf_report(store, 750, rounds=3, progress=lambda done, total: progress.append((done, total)))
    assert (report.company, report.keys, report.loaded_bytes) == ("large", 50, 100)
    assert min(report.load_ms, report.get_ms, report.burst_ms) > 0
    assert report.reconnect_ms == pytest.approx(report.load_ms + report.burst_ms, abs=0.02)
    assert (report.rating, report.within_budget, report.budget_ms) == ("excellent", True, 750)
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert store.companies() == ["large", "small"]
    assert [store.export_rows(company) for company in store.companies()] == before
    assert store.census().pre_keys_rewritten_7d == 0


def test_perf_of_a_named_company(store: Store) -> None:
    store.set("1", {"session": {"a": b"A"}})
    store.set("2", {"session": {"a": b"A", "b": b"B"}})
    assert perf_report(store, 750, "company_1", rounds=1).company == "1"
    with pytest.raises(InvalidInput, match="nobody has no keys"):
        perf_report(store, 750, "nobody")
    assert store.companies() == ["1", "2"]


def test_perf_on_an_empty_table(store: Store) -> None:
    report = perf_report(store, 0.000_001, rounds=1)
    assert (report.company, report.keys, report.within_budget) == (None, 0, False)
    assert store.companies() == []


def test_keys_left_by_an_interrupted_perf_go_with_the_next(store: Store) -> None:
    store.set(PROBE_COMPANY, {"pre-key": {"0": b"left over"}})
    perf_report(store, 750, rounds=1)
    assert store.companies() == []
    assert store.deletions() == [], "the trash has nothing of a probe"
    assert store.census().pre_keys_rewritten_7d == 0


def test_two_perfs_do_not_run_at_once(store: Store) -> None:
    assert store.acquire_lease("perf", "another", 60) is not None
    with pytest.raises(StoreUnavailable, match="another"):
        perf_report(store, 750)


def test_backfill_goes_in_batches_reports_progress_and_enforces(store: Store) -> None:
    store.restore_rows("1", lacking(25) + lacking(5, "pre-key"))
    store.set("1", {"session": {"live": b"A"}})
    would = backfill_expiries(store, dry_run=True)
    assert (would.updated, would.by_type, would.enforced) == (30, {"session": 25, "pre-key": 5}, False)
    assert store.census().without_expiry == 30
    progress: list[tuple[int, int]] = []
    report = backfill_expiries(
        store, batch_keys=12, enforce=True, progress=lambda done, total: progress.append((done, total))
    )
    assert (report.updated, report.by_type, report.enforced) == (30, {"session": 25, "pre-key": 5}, True)
    assert progress == [(12, 30), (24, 30), (30, 30)]
    assert backfill_expiries(store).updated == 0
    with pytest.raises(InvalidInput):
        store.restore_rows("1", lacking(1))
