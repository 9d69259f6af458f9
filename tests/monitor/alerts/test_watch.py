"""The watch on real databases: its measurements and messages, and that nothing holds it up."""

import threading
from collections.abc import Iterator
from datetime import time, timedelta
from time import monotonic
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from keystore import Store, StoreUnavailable, open_store
from keystore.records import Census
from keystore.sql.store import SqlStore
from monitor.alerts.lost_writes import lost_writes, report_lost_writes
from monitor.alerts.measurements import embedded_in
from monitor.alerts.memory import BotMemory, bot_reports, forget_bot, report_memory
from monitor.alerts.outbox import Outbox
from monitor.alerts.stored_state import Mute, muted_until, read_state, set_mute
from monitor.alerts.watch import AWAY_TICK_S, Watch
from monitor.recovery.rolled_back import drop_ratchets
from monitor.remedies import REMEDIES
from monitor.running.bounded_calls import BoundedCalls
from monitor.sweeper import sweep, sweep_and_log
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import Clock
from rig.fixtures.postgres import OwnServer
from rig.relay import Relay
from tests.monitor.alerts.watches import EVERY_S, HOUR, MINUTE, Blocked, Watched, at

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


def pre_keys(ids: range) -> dict[str, dict[str, bytes | None]]:
    return {"pre-key": {f"{n}": b"P" for n in ids}}


@pytest.fixture
def watched(store: Store, clock: Clock) -> Watched:
    return Watched(store, clock)


def test_a_watch_announces_its_start_and_holds_the_lease(watched: Watched) -> None:
    assert not watched.watch.is_alerting
    (message,) = watched.look()
    assert "Signal Keystore 1.2.3 has started on" in message
    assert watched.store.database in message
    assert watched.watch.is_alerting
    assert watched.look(20) == [], "and then nothing, while all is well"


def test_a_service_restarted_over_and_over_announces_few_starts(store: Store, clock: Clock) -> None:
    messages = []
    for _ in range(12):
        watched = Watched(store, clock)
        messages += watched.look(2)
        watched.watch.stop(10)
    assert len([text for text in messages if "has started" in text]) == 3, "in 24 minutes"


def test_a_company_out_of_pre_keys_is_one_alert_and_one_recovery(watched: Watched) -> None:
    watched.store.set("962302", pre_keys(range(4)), creds=b"C")
    watched.store.set("well", pre_keys(range(30)), creds=b"C")
    watched.settled()
    messages = watched.look(20)
    assert messages == [f"bots, alert:\n🟡 pre-keys, 962302: 4 left\n→ {REMEDIES['pre-keys']}"]
    watched.store.set("962302", pre_keys(range(4, 19)))
    assert watched.look(5) == [], "19 aren't enough to be over"
    watched.store.set("962302", pre_keys(range(19, 20)))
    assert watched.look(5) == [
        "bots, recovered:\n🟢 pre-keys, 962302: 20 or more again, or its creds are gone (after 26 min)"
    ]


def test_a_burst_is_reported_once(watched: Watched) -> None:
    watched.settled()
    watched.store.set("962302", pre_keys(range(250)), creds=b"C")
    messages = watched.look(300)
    assert len(messages) == 1
    assert messages[0].startswith(
        "bots, for information:\n🔵 reconnect: 962302 wrote 250 new pre-keys after 2025-10-08 09:"
    )


def test_a_sweeper_that_stands_still_is_an_alert_and_recovers(watched: Watched) -> None:
    watched.settled()
    messages = watched.look(13 * 60)
    assert len(messages) == 1
    assert messages[0].startswith("bots, alert:\n🔴 sweeper: the last success was 12 h ago")
    sweep(watched.store)
    (over,) = watched.look(3)
    assert over.startswith("bots, recovered:\n🟢 sweeper: the last success was")


def test_loads_over_the_budget_are_an_alert(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    store.set("962302", pre_keys(range(30)), creds=b"C")
    watched = Watched(store, clock, load_budget_ms=750).settled()
    really = store.load
    slow_s = [0.9]

    def load(company_id: str) -> object:
        clock.advance(timedelta(seconds=slow_s[0]))
        return really(company_id)

    monkeypatch.setattr(store, "load", load)
    messages = watched.look(20)
    assert len(messages) == 1
    assert messages[0].startswith("bots, alert:\n🟡 loading a bot's state: 900 ms (95th percentile of ")
    assert "budget 750 ms; of 962302\n→ " in messages[0]
    slow_s[0] = 0.1
    assert watched.look(18) == []
    (over,) = watched.look(5)
    assert "bots, recovered:\n🟢 loading a bot's state: 100 ms" in over


def test_the_services_own_memory_is_an_alert_with_its_breakdown(watched: Watched) -> None:
    watched.settled()
    watched.used_share = 0.93
    (raised,) = watched.look(5)
    assert raised.startswith("bots, alert:\n🔴 memory of this service: 930.0 MB of 1.0 GB (93%), ")
    watched.used_share = 0.86
    assert watched.look(5) == []
    watched.used_share = 0.5
    (over,) = watched.look(5)
    assert "🟢 memory of this service: 500.0 MB of 1.0 GB (50%)" in over


def test_a_leaking_bot_is_an_alert_and_one_that_collects_late_is_not(watched: Watched) -> None:
    watched.settled()
    messages = []
    for n in range(24):
        report_memory(watched.store, "company_calm", BotMemory(82 + n % 4, 100, 2_000, 160))
        report_memory(watched.store, "leaky", BotMemory(1_840, 1_900, 2_000, 1_990))
        messages += watched.look(5)
    assert len(messages) == 1
    assert messages[0].startswith("bots, alert:\n🔴 memory of a bot, leaky: heap 1.8 kB of its limit 2.0 kB (92%)")
    assert sorted(bot_reports(watched.store, watched.clock())) == ["calm", "leaky"]
    report_memory(watched.store, "leaky", BotMemory(100, 200, 2_000, 300))
    (over,) = watched.look()
    assert over.startswith("bots, recovered:\n🟢 memory of a bot, leaky: heap 100 B of its limit 2.0 kB (5%)")
    watched.look(2, every=DAY)
    assert bot_reports(watched.store, watched.clock()) == {}, "those a day old are forgotten"
    assert watched.store.notes("memory/") == {}


def heartbeat(watched: Watched, used: int = 100) -> None:
    report_memory(watched.store, "962302", BotMemory(used, 2_000, 2_000, 2_100))


def test_a_database_that_went_back_is_critical_until_its_ratchets_are_dropped(watched: Watched) -> None:
    watched.settled()
    watched.store.set("962302", {"session": {"a.0": b"S"}}, creds=b"{}")
    report_lost_writes(watched.store, "company_962302", (6, 3), (7, 1_250))
    (alert,) = watched.look()
    assert alert.startswith(
        "bots, alert:\n🔴 database went back, 962302: write 1,250 of epoch 7 was acknowledged to its bot"
    )
    assert alert.endswith(f"and the database's latest write is 3 of epoch 6\n→ {REMEDIES['went-back']}")
    assert drop_ratchets(watched.store).keys == 1
    (over,) = watched.look()
    assert "recovered" in over
    assert "database went back, 962302" in over


def test_a_value_that_can_not_be_read_is_critical_until_its_bot_writes_it_again(watched: Watched) -> None:
    watched.settled()
    watched.store.set("962302", {"session": {"a.0": b"S"}})
    assert isinstance(watched.store, SqlStore)
    watched.store.link.work(lambda run: run("UPDATE whatsapp_keys SET value = substr(value, 2)", {}))
    assert watched.store.load("962302").keys == {}
    (alert,) = watched.look()
    assert alert.startswith("bots, alert:\n🔴 unreadable values, 962302: 1 value: 962302 session a.0")
    assert REMEDIES["unreadable"] in alert
    watched.store.set("962302", {"session": {"a.0": b"S2"}})
    (over,) = watched.look()
    assert "recovered" in over


def test_a_report_of_lost_writes_is_forgotten_after_a_day(watched: Watched) -> None:
    watched.settled()
    report_lost_writes(watched.store, "1", (0, 0), (1, 1))
    watched.store.remember("went-back/2", "written by a later version")
    assert lost_writes(watched.store, watched.clock()).keys() == {"1"}
    assert lost_writes(watched.store, watched.clock() + DAY + MINUTE) == {}
    assert watched.store.notes("went-back/") == {}


def test_a_bot_that_is_killed_at_its_limit_does_not_recover(watched: Watched) -> None:
    watched.settled()
    messages = []
    for _ in range(4):
        heartbeat(watched, 1_900)
        messages += watched.look()
    assert "memory of a bot, 962302" in messages[0]
    (message,) = watched.look(20)
    alert, end = message.split("\n\n")
    assert alert.startswith("bots, alert:\n🟡 silent bot, 962302: no heartbeat since 2025-10-08 09:")
    assert alert.endswith(f"\n→ {REMEDIES['silent-bot']}")
    assert end.startswith("bots, ended without a recovery:\n⚪ memory of a bot, 962302: it has stopped reporting")
    assert "recovered" not in message
    heartbeat(watched)
    (over,) = watched.look(3)
    assert over.startswith("bots, recovered:\n🟢 silent bot, 962302: it sends heartbeats")


def test_a_bot_that_was_closed_or_never_sent_a_heartbeat_is_not_missed(watched: Watched) -> None:
    watched.store.set("no-heartbeat", pre_keys(range(30)), creds=b"C")
    watched.settled()
    heartbeat(watched)
    watched.look()
    forget_bot(watched.store, "962302")
    assert watched.look(60) == []


def test_heartbeats_that_could_not_arrive_are_not_missed(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.settled()
    heartbeat(watched)

    def notes(_: str) -> object:
        raise StoreUnavailable("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(watched.store, "notes", notes)
        watched.look(30)
    assert all("silent" not in text for text in watched.look(9)), "nine minutes after the outage"
    assert any("silent bot" in text for text in watched.look(3))


def test_a_silent_bot_stays_silent_through_a_restart_and_ends_after_a_day(store: Store, clock: Clock) -> None:
    first = Watched(store, clock).settled()
    heartbeat(first)
    assert any("silent bot" in text for text in first.look(12))
    first.watch.stop(10)
    second = Watched(store, clock)
    assert [text for text in second.look(30) if "silent bot" in text] == []
    sweep(store)
    ended = [text for text in second.look(24, every=HOUR) if "silent bot" in text]
    assert len(ended) == 1
    assert "ended without a recovery:\n⚪ silent bot, 962302: it was closed, or has been silent for a day" in ended[0]


def test_several_alerts_at_once_are_one_message(watched: Watched) -> None:
    watched.settled()
    for n in range(12):
        watched.store.set(f"c{n:02}", pre_keys(range(3)), creds=b"C")
    (message,) = watched.look(18)
    assert message.count("pre-keys, c") == 5
    assert "… and 7 more: pre-keys\n→ " in message


def test_a_mute_holds_notices_back_and_its_end_lists_what_still_fires(watched: Watched) -> None:
    watched.settled()
    set_mute(watched.store, watched.clock() + 2 * HOUR)
    watched.used_share = 0.93
    watched.store.set("962302", pre_keys(range(4)), creds=b"C")
    assert watched.look(100) == []
    assert "muted until 2025-10-08 11:" in watched.watch.status()
    assert "memory of this service: 930.0 MB" in watched.watch.status(), "alerts are judged all the same"
    watched.store.set("962302", pre_keys(range(40)))
    messages = watched.look(60)
    assert len(messages) == 1
    assert messages[0].startswith("bots: notices are on again. Still firing:\n🔴 memory of this service: 930.0 MB")
    assert "pre-keys" not in messages[0], "that is over"
    watched.used_share = 0.5
    assert len(watched.look(3)) == 1, "its recovery comes"


def test_a_mute_holds_at_once_not_only_after_the_next_look(watched: Watched) -> None:
    watched.settled()
    watched.used_share = 0.93
    assert watched.look(2) == []
    watched.watch.mute(watched.clock() + HOUR)
    assert "muted until" in watched.watch.status()
    assert watched.look(5) == []


def test_the_end_of_a_mute_holds_at_once_even_if_the_database_goes_away(watched: Watched) -> None:
    watched.settled()
    watched.watch.mute(watched.clock() + HOUR)
    watched.look(2)
    assert watched.watch.unmute() == []
    assert "muted until" not in watched.watch.status()
    watched.used_share = 0.93
    assert any("memory of this service" in text for text in watched.look(4))


def test_unmuting_ends_the_mute_at_once_and_is_announced(watched: Watched) -> None:
    watched.settled()
    set_mute(watched.store, watched.clock() + DAY)
    assert muted_until(watched.store, watched.clock()) == watched.clock() + DAY
    assert watched.look(5) == []
    Mute(watched.store, BoundedCalls(1, "question")).end(watched.clock())
    assert muted_until(watched.store, watched.clock()) is None
    assert watched.look(5) == ["bots: notices are on again. Nothing fires."]
    Mute(watched.store, BoundedCalls(1, "question")).end(watched.clock())
    assert watched.look(5) == []


def test_unmuting_by_hand_returns_what_fires_and_no_second_message_follows(watched: Watched) -> None:
    watched.settled()
    watched.used_share = 0.93
    watched.watch.mute(watched.clock() + DAY)
    assert watched.look(5) == []
    (line,) = watched.watch.unmute()
    assert line.startswith("🔴 memory of this service: 930.0 MB")
    assert watched.look(5) == []


def test_a_mute_holds_through_a_restart_and_covers_the_stop_notice(store: Store, clock: Clock) -> None:
    first = Watched(store, clock).settled()
    set_mute(store, clock() + DAY)
    first.outbox.start()
    assert first.watch.stop(10)
    second = Watched(store, clock)
    second.used_share = 0.95
    assert [first.messages, second.look(60)] == [[], []]


def test_the_summary_comes_once_a_day_from_any_process(store: Store, clock: Clock) -> None:
    clock.set(at(5, 30))
    store.set("962302", pre_keys(range(30)), creds=b"C")
    watched = Watched(store, clock, summary_at=time(9, 0), zone=ZoneInfo("Europe/Berlin")).settled()
    assert watched.look(80) == []
    messages = watched.look(15)
    assert len(messages) == 1
    assert messages[0].startswith("🟢 bots, Wednesday 8 October: ok\n30 keys of 1 company, ")
    assert "CEST)" in messages[0], "times are the operator's"
    watched.watch.stop(10)
    second = Watched(store, clock, summary_at=time(9, 0), zone=ZoneInfo("Europe/Berlin"))
    assert [text for text in second.look(60) if "October" in text] == []
    sweep(store)
    clock.set(at(6, 50, day=9))
    assert len([text for text in second.look(60) if "Thursday 9 October" in text]) == 1


def test_the_state_is_stored_only_when_it_changes(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.settled()
    written: list[str] = []
    really = watched.store.remember

    def remember(name: str, document: str | None) -> None:
        written.append(name)
        really(name, document)

    monkeypatch.setattr(watched.store, "remember", remember)
    watched.look(30)
    assert written == []
    watched.used_share = 0.93
    watched.look(5)
    assert written.count("alerts") == 2, "when it began to wait, and when it was raised"


def test_an_unreadable_state_is_replaced(watched: Watched) -> None:
    watched.store.remember("alerts", "{no json")
    watched.store.remember("outbox", "[no, json")
    watched.store.remember("mute", "7")
    watched.store.remember("summary", "[]")
    with capture_logs() as logs:
        assert len(watched.look(3)) == 1
    assert {"alerts_not_readable", "outbox_not_readable"} <= {entry["event"] for entry in logs}
    watched.used_share = 0.93
    assert len(watched.look(4)) == 1


def test_counting_is_paced_by_its_cost(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.settled()
    really, counted = watched.store.census, [0]

    def census() -> Census:
        counted[0] += 1
        watched.clock.advance(timedelta(seconds=6))
        return really()

    monkeypatch.setattr(watched.store, "census", census)
    watched.look(60)
    assert 11 <= counted[0] <= 13, "6 seconds every 5 minutes"


def test_a_table_too_large_to_count_in_time_is_no_outage(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.settled()
    blocked = Blocked()
    monkeypatch.setattr("monitor.alerts.measurements.SURVEY_WITHIN_S", 0.05)
    monkeypatch.setattr(watched.store, "census", lambda: blocked(0, ""))
    with capture_logs() as logs:
        assert watched.look(3) == []
    blocked.release.set()
    assert "survey_too_slow" in [entry["event"] for entry in logs]


def test_the_status_describes_the_service(watched: Watched) -> None:
    assert "last look: none yet" in watched.watch.status()
    assert "stands by" in watched.watch.status()
    watched.settled()
    watched.look(120)
    status = watched.watch.status().split("\n")
    assert status[0].startswith("Signal Keystore 1.2.3 on ")
    assert status[0].endswith("up 2 h")
    assert status[1] == f"database: {watched.store.database}"
    assert status[2] == "memory: 500.0 MB of 1.0 GB (50%)"
    assert status[3:] == ["last look: 0 s ago", "role: sends the alerts", "nothing fires"]
    watched.used_share = 0.93
    watched.look(4)
    state = read_state(watched.store)
    assert state is not None
    assert watched.watch.status().split("\n")[5:] == [
        "firing:",
        f"🔴 memory of this service: {state.firing()['memory', ''].detail} (for 3 min)",
    ]


def test_a_stop_lists_the_firing_alerts_and_releases_the_lease(watched: Watched, clock: Clock) -> None:
    watched.settled()
    watched.used_share = 0.93
    watched.look(4)
    watched.messages.clear()
    watched.outbox.start()
    assert watched.watch.stop(10)
    (message,) = watched.messages
    assert message.startswith("⏹ bots: Signal Keystore 1.2.3 on ")
    assert "Still firing:\n🔴 memory of this service" in message
    assert not watched.watch.is_alerting
    assert watched.store.acquire_lease("watch", "next", 1) is not None
    assert [text for text in Watched(watched.store, clock).look() if "Alert" in text] == []


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_an_outage_of_the_database_is_reported_and_so_is_its_recovery(
    how: str, relay: Relay, migrated_postgres_url: str, clock: Clock
) -> None:
    with open_store(relay.url(migrated_postgres_url), clock=clock) as store:
        watched = Watched(store, clock).settled()
        with relay.refusing() if how == "stopped" else relay.swallowing():
            watched.used_share = 0.93
            began = monotonic()
            clock.advance(MINUTE)
            assert watched.watch.tick() == AWAY_TICK_S
            assert monotonic() - began < 8, "no look is held up"
            messages = watched.look(2)
            assert len(messages) == 2, messages
            assert messages[0].startswith("bots, alert:\n🔴 database: postgresql://")
            assert messages[0].count("no answer") <= 1, messages[0]
            assert f"\n→ {REMEDIES['database']}" in messages[0]
            assert "memory of this service" in messages[1], "it goes on with the measurements of this machine"
            assert f"\n{store.database}: " in watched.watch.status()
            assert watched.watch.is_alerting
        back: list[str] = []
        for _ in range(30):
            back += watched.look(1, every=timedelta(seconds=1))
            if back:
                break
        (over,) = back
        assert over.startswith("bots, recovered:\n🟢 database: postgresql://")


def test_a_restart_of_the_database_is_no_alert(own_server: OwnServer, clock: Clock) -> None:
    with open_store(own_server.url, clock=clock) as store:
        watched = Watched(store, clock).settled()
        own_server.server.crash()
        assert watched.look() == []
        own_server.server.start()
        assert watched.look(3, every=timedelta(seconds=AWAY_TICK_S)) == []


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    blocked = Blocked()
    yield blocked
    blocked.release.set()


def test_an_outage_of_telegram_delays_no_store_sweeper_or_watch(store: Store, clock: Clock, blocked: Blocked) -> None:
    outbox = Outbox(blocked, [11], clock=clock)
    watch = Watch(store, outbox, WatchSettings(EVERY_S), clock=clock)
    outbox.start()
    watch.tick()
    assert blocked.began.wait(10), "a delivery hangs"
    began = monotonic()
    for n in range(30):
        clock.advance(MINUTE)
        store.set("962302", pre_keys(range(n)), creds=b"C")
        outbox.post("one more")
        watch.tick()
    store.set("962302", {"session": {f"{n}": b"S" for n in range(3)}})
    clock.advance(100 * DAY)
    assert sweep(store).deleted == 3
    assert monotonic() - began < 10
    assert watch.is_alerting
    blocked.release.set()
    assert watch.stop(10)


def test_an_unreadable_value_is_no_outage(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    from keystore import CorruptValue

    watched.store.set("962302", pre_keys(range(30)), creds=b"C")
    watched.settled()

    def load(_: str) -> object:
        raise CorruptValue("962302 pre-key 7: a format this version doesn't know")

    monkeypatch.setattr(watched.store, "load", load)
    with capture_logs() as logs:
        assert watched.look(5) == []
    assert [entry["event"] for entry in logs] == ["load_not_timed"] * 5


def test_an_outage_in_the_middle_of_a_look_counts(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.settled()

    def notes(_: str) -> object:
        raise StoreUnavailable("postgresql://db/bots: connection refused")

    monkeypatch.setattr(watched.store, "notes", notes)
    assert watched.look() == []
    (message,) = watched.look()
    assert f"🔴 database: {watched.store.database}: postgresql://db/bots: connection refused" in message


def test_the_disk_of_an_embedded_database_is_measured() -> None:
    assert str(embedded_in("sqlite:////srv/keys/k.db")) == "/srv/keys"
    assert embedded_in("postgresql://db:5432/bots") is None


def test_a_sweep_held_back_is_an_alert_until_one_by_hand_lets_it_pass(watched: Watched) -> None:
    store = watched.settled().store
    store.set("962302", {"session": {f"{n}.0": b"A" for n in range(30)}}, creds=b"C")
    watched.clock.advance(8 * DAY)
    sweep_and_log(store, threading.Event())
    text = "\n".join(watched.look(3))
    assert "sweep held back" in text
    assert "held back 1 company that would lose most of its sessions at once: 962302 (30 of 30)" in text
    assert REMEDIES["held-back"] in text
    assert "no success" not in text, "the sweep worked"
    assert sweep(store).deleted == 30
    (recovery,) = watched.look(3)
    assert "the latest sweep held nothing back" in recovery
