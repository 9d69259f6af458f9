"""No sweep deletes a key that a bot still needs: a contact's hundred days, and any history of a bot."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keystore import Store
from keystore.records import Keys
from keystore.ttl import CAREFUL, DIARY, Policy
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

DAY = timedelta(days=1)
ACTIVE, ACTIVE_LID = "4915112345678", "200000000000001"
SILENT, SILENT_LID = "4915198765432", "200000000000002"


def contact(number: str, lid: str) -> Keys:
    """All keys that hang on one contact, as Baileys 7 stores them: the session under the LID."""
    return {
        "session": {f"{lid}_1.0": b"{}"},
        "identity-key": {f"{lid}_1.0": b"{}"},
        "device-list": {number: b'["0"]'},
        "lid-mapping": {number: b'"%b"' % lid.encode(), f"{lid}_reverse": b'"%b"' % number.encode()},
        "tctoken": {f"{lid}@lid": b"{}"},
    }


def names(keys: Keys) -> set[tuple[str, str]]:
    """The types and ids of these keys."""
    return {(key_type, key_id) for key_type, by_id in keys.items() for key_id in by_id}


@pytest.mark.parametrize("policy", [DIARY, CAREFUL], ids=["diary", "careful"])
def test_an_active_contact_and_every_pre_key_are_there_after_100_days(
    make_store: MakeStore, clock: Clock, policy: Policy
) -> None:
    store = make_store(clock=clock, policy=policy)
    store.set("1", {"pre-key": {f"{n}": b"P" for n in range(1, 813)}}, creds=b"{}")
    store.set("1", contact(ACTIVE, ACTIVE_LID))
    store.set("1", contact(SILENT, SILENT_LID))
    silent_until = 0
    for day in range(1, 101):
        clock.advance(DAY)
        if day == 1:
            store.set("1", {"pre-key": {"812": None, **{f"{n}": b"P" for n in range(813, 818)}}})
        store.get("1", "session", [f"{ACTIVE_LID}_1.0"])
        if day % 7 == 0:
            store.get("1", "lid-mapping", [ACTIVE])
            store.touch("1", {"tctoken": [f"{ACTIVE_LID}@lid"]})
        sweep(store)
        if f"{SILENT_LID}_1.0" in store.load("1").keys["session"]:
            silent_until = day
    left = names(store.load("1").keys)
    assert {("pre-key", f"{n}") for n in [*range(1, 812), *range(813, 818)]} | names(
        contact(ACTIVE, ACTIVE_LID)
    ) <= left
    silent_left = {key_type for key_type, _ in names(contact(SILENT, SILENT_LID)) & left}
    if policy == CAREFUL:
        assert silent_until == 90, "its session goes on day 91"
        assert silent_left == {"identity-key", "lid-mapping"}, "these never go by the clock"
    else:
        assert silent_left == set()


PEOPLE = [("49151", "2001"), ("49152", "2002"), ("49153", "2003")]
GROUPS = ["1203@g.us", "1204@g.us"]
POLICIES = st.sampled_from(
    [DIARY, CAREFUL, Policy(by_type={"session": 20 * 86_400.0}, default_s=3 * 86_400.0), Policy(default_s=5 * 86_400.0)]
)

PERSON, GROUP = st.sampled_from(PEOPLE), st.sampled_from(GROUPS)
STEPS = st.one_of(
    st.tuples(st.just("meet"), PERSON),
    st.tuples(st.just("message"), PERSON),
    st.tuples(st.just("token"), PERSON),
    st.tuples(st.just("look up"), PERSON),
    st.tuples(st.just("send to group"), GROUP),
    st.tuples(st.just("hear from group"), GROUP),
    st.tuples(st.just("pre-keys"), st.integers(1, 400)),
    st.tuples(st.just("days"), st.integers(1, 12)),
)


class History:
    """A bot's writes and uses, and what it must find afterwards."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._next_pre_key = 1

    def live(self, step: str, subject: tuple[str, str] | str | int) -> None:
        """Do one step: a write, a use, or some days with a sweep after each."""
        match step, subject:
            case "meet", (number, lid):
                self._store.set("1", {kind: keys for kind, keys in contact(number, lid).items() if kind != "tctoken"})
            case "message", (_, lid):
                self._store.get("1", "session", [f"{lid}_1.0"])
            case "token", (_, lid):
                self._store.set("1", {"tctoken": {f"{lid}@lid": b"{}"}})
            case "look up", (number, _):
                self._store.get("1", "lid-mapping", [number])
            case "send to group", str(group):
                self._store.set("1", {"sender-key": {f"{group}::me::0": b"{}"}, "sender-key-memory": {group: b"{}"}})
            case "hear from group", str(group):
                self._store.set("1", {"sender-key": {f"{group}::49151::0": b"{}"}})
            case "pre-keys", int(size):
                ids = range(self._next_pre_key, self._next_pre_key + size)
                self._next_pre_key += size
                self._store.set("1", {"pre-key": {f"{n}": b"P" for n in ids}})
            case "days", int(days):
                for _ in range(days):
                    self._clock.advance(DAY)
                    sweep(self._store)
                    self.check()

    def check(self) -> None:
        """Assert that nothing which a bot needs is missing."""
        keys = self._store.load("1").keys
        sessions = {key_id.partition("_")[0] for key_id in keys.get("session", {})}
        for number, lid in PEOPLE:
            mapping = {number, f"{lid}_reverse"} & keys.get("lid-mapping", {}).keys()
            assert len(mapping) in (0, 2), "half a pair"
            if lid in sessions:
                assert len(mapping) == 2
                assert f"{lid}_1.0" in keys["identity-key"], "a session without its identity"
                assert number in keys["device-list"]
        for group in GROUPS:
            sent = f"{group}::me::0" in keys.get("sender-key", {})
            assert sent == (group in keys.get("sender-key-memory", {})), "a group with half of its state"
        assert len(keys.get("pre-key", {})) >= min(1_000, self._next_pre_key - 1)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=POLICIES, steps=st.lists(STEPS, min_size=5, max_size=25))
def test_after_any_history_nothing_that_a_bot_needs_is_missing(
    make_store: MakeStore, steps: list[tuple[str, tuple[str, str] | str | int]], policy: Policy
) -> None:
    clock = Clock(START)
    store = make_store(clock=clock, policy=policy)
    store.clear("1")
    history = History(store, clock)
    for step, subject in steps:
        history.live(step, subject)
    store.close()
