"""The service counts, records and loads little of a flood that one company wrote."""

import json
import tracemalloc

from keystore import Store
from keystore.ids import KNOWN_TYPES, OTHER_TYPES
from keystore.sql.upkeep import MOST_BYTES_LOADED, MOST_KEYS_LOADED, MOST_OTHERS_LISTED
from monitor.forecast.history import COUNTS, LIVES, record_counts, start_of_day
from monitor.reports.load_time import timed_load
from rig.fixtures.clock import START
from tests.conformance.flood import flood
from tests.conformance.full_sweep import sweep

TYPES = 5_000
LARGEST_DOCUMENT = 10_000
SLACK_BYTES = 2**20


def test_reports_and_records_name_known_types_and_a_few_others(store: Store, store_url: str) -> None:
    store.set("1", {"session": {"a": b"A"}, "own type": {f"{n}": b"A" for n in range(9)}})
    flood(store_url, "2", TYPES)
    census = store.census()
    listed = {count.key_type: count for count in census.by_type}
    assert len(listed) == 1 + MOST_OTHERS_LISTED + 1
    assert (listed["session"].total, listed["own type"].total) == (1, 9)
    assert listed[OTHER_TYPES].total == TYPES - (MOST_OTHERS_LISTED - 1)
    assert sum(count.total for count in census.by_type) == census.total == TYPES + 10
    assert {count.key_type for count in store.life_counts()} == {"session", OTHER_TYPES}
    assert sum(count.keys for count in store.life_counts()) == census.total
    record_counts(store)
    for series in (COUNTS, LIVES):
        (entry,) = store.history(series, start_of_day(START))
        assert len(json.dumps(entry.document)) < LARGEST_DOCUMENT
    run = sweep(store)
    assert (run.deleted, run.by_type, store.sweep_runs(1)[0].by_type) == (TYPES, *[{OTHER_TYPES: TYPES}] * 2)
    assert {count.key_type for count in store.counts(START)} <= {*KNOWN_TYPES, OTHER_TYPES}


def test_a_company_too_large_to_load_is_never_loaded_by_the_service(store: Store, store_url: str) -> None:
    value = b"\0" + b"V" * (MOST_BYTES_LOADED // 8)
    flood(store_url, "bytes", 1, keys=9, value=value)
    flood(store_url, "keys", 1, keys=MOST_KEYS_LOADED + 1)
    tracemalloc.start()
    try:
        assert timed_load(store, 750).company is None
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < SLACK_BYTES
    store.set("usual", {"session": {"a": b"A", "b": b"B"}})
    store.set("small", {"session": {"a": b"A"}})
    assert (timed_load(store, 750).company, timed_load(store, 750).keys) == ("usual", 2)
