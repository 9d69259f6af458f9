"""After any order of operations on two companies, a store and a plain dict have the same keys, times and counts."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from keystore import LeaseHeld, LeaseLost, Store
from keystore.ids import canonical_company
from keystore.ttl import DIARY, NEVER, Policy
from rig.fixtures.clock import Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep
from tests.conformance.model_store import Model

pytestmark = pytest.mark.slow

EXAMPLES = settings().max_examples // 2
STEPS = 30

POLICY = Policy({**DIARY.by_type, "identity-key": NEVER}, DIARY.containing, DIARY.default_s)

COMPANIES = st.sampled_from(["1", "company_1", "2"])
IDS = {
    "pre-key": ["1", "2", "3"],
    "session": ["a", "b"],
    "sender-key": ["g1::me::0", "g1::you::0", "g2::me::0"],
    "sender-key-memory": ["g1", "g2"],
    "app-state-sync-key": ["a"],
    "lid-mapping": ["1"],
    "identity-key": ["a"],
}
NAMES = st.sampled_from([(key_type, key_id) for key_type, ids in IDS.items() for key_id in ids])
VALUES = st.none() | st.sampled_from([b"A", b"B", b"\x00"])
WRITES = st.dictionaries(NAMES, VALUES, max_size=6)
CREDS = st.none() | st.sampled_from([b"C", b"D"])
COUNTED_FOR = timedelta(days=90)
"""Hourly counts are deleted after this time."""

SIGNS = {"created": 1, "renewed": 0, "deleted": -1, "cleared": -1, "swept": -1}
CARRIED = st.sampled_from(["latest", "latest", "none", "older"])
LEASES_S = st.sampled_from([30.0, 90.0, 86_400.0])
LONGEST_LEASE = timedelta(days=1)
STEPS_ON = st.sampled_from(
    [timedelta(minutes=1), timedelta(minutes=59), timedelta(hours=5), *(timedelta(days=days) for days in (1, 4, 8, 15))]
)


def by_type(names: dict[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    """`{(type, id): x}` as `{type: {id: x}}`."""
    keys: dict[str, dict[str, Any]] = {}
    for (key_type, key_id), value in names.items():
        keys.setdefault(key_type, {})[key_id] = value
    return keys


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and a model; compares every result and, after each step, every row."""

    store: Store
    clock: Clock
    guard: bool

    @initialize()
    def start_empty(self) -> None:
        self.clock.advance(LONGEST_LEASE)
        for company in self.store.companies():
            self.store.clear(company)
        self.model = Model(self.clock, POLICY, guard=self.guard)
        for company in ("1", "2"):
            lease = self.store.lease_company(company, "machine", 60)
            self.store.release_company(company, "machine", lease.epoch)
            self.model.leases[company] = replace(lease, expires_at=self.clock())
        self.began = self.clock.advance(timedelta(hours=1))

    def epoch(self, company: str, carried: str) -> int | None:
        """The epoch that a writer carries: that of the company's latest lease, an older one, or none."""
        latest = self.model.leases.get(canonical_company(company))
        if carried == "none" or latest is None or (carried == "older" and latest.epoch == 1):
            return None
        return latest.epoch - (carried == "older")

    def succeeds(self, company: str, epoch: int | None, write: Callable[[], None]) -> bool:
        """Write, and return True if it succeeded; the model must have predicted that."""
        if self.model.may_write(company, epoch):
            write()
            return True
        with pytest.raises(LeaseLost):
            write()
        return False

    @rule(company=COMPANIES, writes=WRITES.filter(bool), creds=CREDS, carried=CARRIED)
    def set(self, company: str, writes: dict[tuple[str, str], bytes | None], creds: bytes | None, carried: str) -> None:
        epoch = self.epoch(company, carried)
        if self.succeeds(company, epoch, lambda: self.store.set(company, by_type(writes), creds, epoch=epoch)):
            self.model.set(company, by_type(writes), creds)

    @rule(company=COMPANIES, holder=st.sampled_from("ab"), ttl_s=LEASES_S, force=st.booleans())
    def lease(self, company: str, holder: str, ttl_s: float, force: bool) -> None:
        lease = self.model.take(company, holder, ttl_s, force=force)
        if lease is not None:
            assert self.store.lease_company(company, holder, ttl_s, force=force) == lease
            return
        with pytest.raises(LeaseHeld) as held:
            self.store.lease_company(company, holder, ttl_s)
        current = self.model.lease(company)
        assert current is not None
        assert (held.value.holder, held.value.expires_at) == (current.holder, current.expires_at)

    @rule(company=COMPANIES)
    def release(self, company: str) -> None:
        lease = self.model.lease(company)
        if lease is not None:
            self.store.release_company(company, lease.holder, lease.epoch)
            self.model.end(company)

    @rule(company=COMPANIES, key_type=st.sampled_from(list(IDS)), data=st.data())
    def get(self, company: str, key_type: str, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(IDS[key_type])))
        assert self.store.get(company, key_type, ids) == self.model.get(company, key_type, ids)

    @rule(company=COMPANIES, names=st.lists(NAMES, max_size=6, unique=True))
    def touch(self, company: str, names: list[tuple[str, str]]) -> None:
        used = by_type(dict.fromkeys(names))
        self.store.touch(company, used)
        for key_type, ids in used.items():
            self.model.touch(company, key_type, list(ids))

    @rule(company=COMPANIES)
    def load(self, company: str) -> None:
        state = self.store.load(company)
        assert (state.creds, state.keys) == self.model.load(company)

    @rule(company=COMPANIES, creds=st.sampled_from([b"C", b"D"]), carried=CARRIED)
    def set_creds(self, company: str, creds: bytes, carried: str) -> None:
        epoch = self.epoch(company, carried)
        if self.succeeds(company, epoch, lambda: self.store.set_creds(company, creds, epoch=epoch)):
            self.model.creds[canonical_company(company)] = creds

    @rule(company=COMPANIES)
    def get_creds(self, company: str) -> None:
        assert self.store.get_creds(company) == self.model.load(company)[0]

    @rule(company=COMPANIES, carried=CARRIED, keys_only=st.booleans())
    def clear(self, company: str, carried: str, keys_only: bool) -> None:
        epoch = self.epoch(company, carried)
        if self.succeeds(company, epoch, lambda: self.store.clear(company, keys_only=keys_only, epoch=epoch)):
            self.model.clear(company, keys_only=keys_only)

    @rule(by=STEPS_ON)
    def time_passes(self, by: timedelta) -> None:
        self.clock.advance(by)

    @rule()
    def sweep(self) -> None:
        expired = len(self.model.expired())
        assert self.store.census().expired == expired
        run = sweep(self.store)
        assert (run.deleted, run.by_type) == (expired, self.model.sweep())

    @rule()
    def census(self) -> None:
        census, past = self.store.census(), self.model.past()
        assert census.total == len(self.model.keys)
        assert (census.expired, census.guarded) == (len(self.model.expired()), len(past - self.model.expired()))
        assert census.companies == len({name[0] for name in self.model.keys} | self.model.creds.keys())

    @rule()
    def counts_add_up_to_the_stored_keys(self) -> None:
        if self.clock() > self.began + COUNTED_FOR:
            return
        balance: Counter[str] = Counter()
        for count in self.store.counts(self.began):
            balance[count.key_type] += SIGNS[count.event] * count.keys
        stored = Counter(name[1] for name in self.model.keys)
        assert {key_type: keys for key_type, keys in balance.items() if keys} == dict(stored)

    @rule()
    def every_lease_equals_the_models(self) -> None:
        for seen in self.store.company_page().companies:
            assert seen.lease == self.model.lease(seen.company_id)

    @invariant()
    def every_row_equals_the_models(self) -> None:
        for company in ("1", "2"):
            rows = {
                (company, row.key_type, row.key_id): (
                    row.value,
                    row.created_at,
                    row.updated_at,
                    row.expires_at,
                    row.never_expires,
                )
                for row in self.store.export_rows(company)
            }
            assert rows == {
                name: (key.value, key.created_at, key.updated_at, key.expires_at, key.never_expires)
                for name, key in self.model.keys.items()
                if name[0] == company
            }


def machine_on(store: Store, clock: Clock, guard: bool) -> type[StoreMachine]:
    """A machine class that works on this store."""
    return type("Machine", (StoreMachine,), {"store": store, "clock": clock, "guard": guard})


@pytest.mark.parametrize("guard", [True, False])
def test_any_order_of_operations_equals_a_dict(make_store: MakeStore, clock: Clock, guard: bool) -> None:
    store = make_store(clock=clock, policy=POLICY, guard=guard)
    run_state_machine_as_test(
        machine_on(store, clock, guard),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
