"""Several watches on one Postgres: one alerts, and when it dies another goes on from its state."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta

import psycopg
import pytest

from keystore import open_store
from monitor.alerts.outbox import NotDelivered
from monitor.alerts.watch import LEASE_S
from rig.fixtures.clock import Clock
from rig.paths import PROJECT
from rig.relay import Relay
from tests.monitor.alerts.watches import MINUTE, Watched

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("alert_takeover")]

RULE = "memory of this service"


@pytest.fixture
def process(migrated_postgres_url: str, clock: Clock) -> Iterator[Callable[[], Watched]]:
    """A function that makes a watch with a store of its own, as another process has."""
    with ExitStack() as stack:

        def another() -> Watched:
            return Watched(stack.enter_context(open_store(migrated_postgres_url, clock=clock)), clock)

        yield another


def together(first: Watched, second: Watched, times: int) -> tuple[list[str], list[str]]:
    """Let both look `times` times, a minute apart; the messages of each."""
    messages: tuple[list[str], list[str]] = ([], [])
    for _ in range(times):
        messages[0].extend(first.look())
        messages[1].extend(second.look(every=timedelta(0)))
    return messages


def test_one_of_two_watches_alerts(process: Callable[[], Watched]) -> None:
    first, second = process(), process()
    together(first, second, 2)
    assert [first.watch.is_alerting, second.watch.is_alerting] == [True, False]
    first.used_share = second.used_share = 0.93
    alerts, silence = together(first, second, 30)
    assert [len(alerts), silence] == [1, []]
    assert "role: stands by; another instance sends the alerts" in second.watch.status()
    first.used_share = second.used_share = 0.5
    recoveries, silence = together(first, second, 30)
    assert [len(recoveries), silence] == [1, []]


def test_a_lost_lease_counts_even_if_the_next_query_fails(
    process: Callable[[], Watched], migrated_postgres_url: str
) -> None:
    first, second = process(), process()
    first.look()
    second.look(every=timedelta(seconds=LEASE_S + 1))
    assert second.watch.is_alerting
    with psycopg.connect(migrated_postgres_url, autocommit=True) as conn:
        conn.execute("ALTER TABLE keystore_notes RENAME TO hidden")
    first.watch.tick()
    assert not first.watch.is_alerting


def test_a_stand_by_announces_that_it_stands_by(process: Callable[[], Watched], clock: Clock) -> None:
    first, second = process(), process()
    (message,) = first.look()
    assert message.endswith(f"and sends the alerts. It watches {first.store.database}.")
    clock.advance(timedelta(minutes=10))
    first.look()
    (message,) = second.look()
    assert "stands by; another instance sends the alerts" in message


def test_when_the_alerting_watch_dies_the_other_goes_on_from_its_state(process: Callable[[], Watched]) -> None:
    first, second = process(), process()
    together(first, second, 2)
    first.used_share = second.used_share = 0.93
    together(first, second, 5)
    assert second.look(2) == [], "the lease still lives"
    assert not second.watch.is_alerting
    messages = second.look(10)
    assert second.watch.is_alerting
    assert messages == [], "the firing alert was reported already"
    assert RULE in second.watch.status()
    second.used_share = 0.5
    (over,) = second.look(3)
    assert over.startswith(f"bots, recovered:\n🟢 {RULE}")


def test_a_watch_that_stops_releases_the_lease_at_once(process: Callable[[], Watched]) -> None:
    first, second = process(), process()
    together(first, second, 2)
    first.watch.stop(10)
    second.look()
    assert second.watch.is_alerting


def test_the_successor_delivers_the_notices_that_wait(process: Callable[[], Watched]) -> None:
    first, second = process(), process()
    together(first, second, 2)
    first.failing = NotDelivered(0)
    first.used_share = second.used_share = 0.93
    first.look(5)
    assert first.outbox.pending == 1
    messages = second.look(5)
    assert len(messages) == 1
    assert f"🔴 {RULE}" in messages[0]
    assert messages[0].startswith("["), "with its own time"


def test_a_watch_that_comes_back_stands_by(process: Callable[[], Watched]) -> None:
    first, second = process(), process()
    together(first, second, 2)
    first.used_share = second.used_share = 0.93
    second.look(10)
    assert second.watch.is_alerting
    assert first.look(2) == []
    assert not first.watch.is_alerting
    assert second.look(3) == []
    assert second.watch.is_alerting


def test_during_an_outage_the_last_holder_goes_on_and_then_hands_over(
    relay: Relay, migrated_postgres_url: str, clock: Clock
) -> None:
    through = relay.url(migrated_postgres_url)
    with open_store(through, clock=clock) as first_store, open_store(through, clock=clock) as second_store:
        first, second = Watched(first_store, clock), Watched(second_store, clock)
        together(first, second, 2)
        with relay.refusing():
            alerts, silence = together(first, second, 2)
            assert [len(alerts), silence] == [1, []]
            assert first.watch.is_alerting
            clock.advance(10 * MINUTE)
        for _ in range(20):
            if second.watch.is_alerting:
                break
            second.look(every=timedelta(seconds=1))
        assert second.watch.is_alerting, "it comes first when the lease has expired"
        back = first.look()
        assert len(back) == 1
        assert back[0].startswith("bots, recovered:\n🟢 database"), "each alert has its recovery"
        assert not first.watch.is_alerting
        assert together(first, second, 5) == ([], [])


class Worker:
    """A watch in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def look(self, how: str = "") -> str:
        """One look; True when it alerts, the number of messages, and of notices that wait."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{how}\n")
        self.process.stdin.flush()
        return next(line for line in self.process.stdout if line.startswith(("True", "False"))).strip()

    def close(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self.process.kill()
        self.process.communicate()


def worker(url: str) -> Worker:
    return Worker(
        subprocess.Popen(
            [sys.executable, "-m", "tests.monitor.alerts.watch_worker", url],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )


def test_a_killed_process_is_followed_by_another(
    migrated_postgres_url: str, clock: Clock, process: Callable[[], Watched]
) -> None:
    with closing(worker(migrated_postgres_url)) as killed:
        assert killed.look() == "True 1 0", "it holds the lease, and has announced its start"
        assert [killed.look(), killed.look()] == ["True 0 0", "True 1 0"], "its memory is reported"
        clock.advance(3 * MINUTE)
        second = process()
        second.used_share = 0.93
        assert second.look(1) == []
        assert not second.watch.is_alerting
    assert second.look(1) == [], "killed, and its lease still lives"
    assert not second.watch.is_alerting
    assert second.look(10) == [], "its alert isn't reported twice"
    assert second.watch.is_alerting
    second.used_share = 0.5
    (over,) = second.look(3)
    assert over.startswith(f"bots, recovered:\n🟢 {RULE}")


def test_the_next_process_delivers_the_notices_of_a_killed_one(
    migrated_postgres_url: str, clock: Clock, process: Callable[[], Watched]
) -> None:
    with closing(worker(migrated_postgres_url)) as killed:
        killed.look()
        assert [killed.look(), killed.look("out of reach")] == ["True 0 0", "True 0 1"]
    clock.advance(6 * MINUTE)
    second = process()
    second.used_share = 0.93
    messages = "\n".join(second.look(3))
    assert messages.count(f"🔴 {RULE}") == 1
