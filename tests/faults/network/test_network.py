"""The network between bots, service and database fails: a black hole of 30 seconds, and half-open connections."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from keystore import open_store
from rig.fixtures.postgres import OwnServer
from rig.waiting import eventually
from tests.faults.calls import Calls
from tests.faults.conftest import ACCOUNTS
from tests.faults.network.links import LINKS, Link, relayed
from tests.faults.writers import Writers, report

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

BLACK_HOLE_S = 30.0

MOST_RECOVERY_S = 20.0
"""Limit of the time in which every account writes again, once the network is back."""

MOST_LOST_S = 65.0
"""Limit of the time in which every account writes again after its connection was lost without a word: a bot waits 40
seconds for an answer, and the service 15 for the database's. The first to use a lost connection may be the renewal of a
lease, which comes every 20 seconds, and an account's writes wait for it."""


@pytest.fixture(params=LINKS)
def link(request: pytest.FixtureRequest, own_server: OwnServer, tmp_path: Path) -> Iterator[Link]:
    """Each link in turn, with a relay in it."""
    own_server.let_owner_make_logins()
    with relayed(str(request.param), own_server, tmp_path) as made:
        yield made


@pytest.mark.parametrize("delivery", ["dropped", "late"])
def test_a_black_hole_of_thirty_seconds(link: Link, own_server: OwnServer, baileys: Path, delivery: str) -> None:
    """All that was sent is dropped and the connections end, or all of it arrives after the 30 seconds."""
    with Writers(baileys, link.url, link.token, ACCOUNTS) as writers:
        writers.await_all()
        writers.await_progress()
        hole = link.relay.swallowing() if delivery == "dropped" else link.relay.holding_back()
        with ExitStack() as calling:
            calls = {name: calling.enter_context(Calls(call)) for name, call in link.calls.items()}
            with hole:
                ends_at = monotonic() + BLACK_HOLE_S
                eventually(lambda: monotonic() > ends_at, "the black hole lasts", 2 * BLACK_HOLE_S)
            began = monotonic()
            writers.await_progress(MOST_RECOVERY_S)
            recovery_s = monotonic() - began
        writers.await_progress()
        writers.stop()
        with open_store(own_server.url) as store:
            name = f"black hole of 30 s, {delivery} ({link.name})"
            longest = [f"longest {call} {each.longest_s:.1f} s" for call, each in calls.items()]
            report(name, 1, [writers], writers.lost(store), f"recovery {recovery_s:.1f} s", *longest)
    assert all(each.longest_s < link.bounds_s[call] for call, each in calls.items())
    assert writers.longest_silence_s < BLACK_HOLE_S + MOST_RECOVERY_S


def test_connections_are_half_open_twice(link: Link, own_server: OwnServer, baileys: Path) -> None:
    """Every connection is lost without a word to either side, and new ones work."""
    recoveries, lost_connections = [], 0
    with Writers(baileys, link.url, link.token, ACCOUNTS) as writers, ExitStack() as calling:
        writers.await_all()
        calls = {name: calling.enter_context(Calls(call)) for name, call in link.calls.items()}
        for _ in range(2):
            writers.await_progress()
            lost_connections += link.relay.lose()
            began = monotonic()
            writers.await_progress(2 * MOST_LOST_S)
            recoveries.append(monotonic() - began)
        calling.close()
        writers.stop()
        with open_store(own_server.url) as store:
            longest = [f"longest {call} {each.longest_s:.1f} s" for call, each in calls.items()]
            name = f"half-open connections ({link.name})"
            lost = writers.lost(store)
            recovery = f"{lost_connections} connections, longest recovery {max(recoveries):.1f} s"
            report(name, 2, [writers], lost, recovery, *longest)
    assert all(each.longest_s < link.bounds_s[call] for call, each in calls.items())
    assert max(recoveries) < MOST_LOST_S
