"""Real Baileys over the real service: bots that are killed, services and databases that restart, bots that meet."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from keystore import open_store
from rig.fixtures.clock import eventually
from rig.fixtures.postgres import OwnServer
from rig.real_state import real_creds, real_keys
from tests.clients.conftest import free_port
from tests.clients.node import Accounts, DeviceError
from tests.clients.site import COMPANY, Site
from tests.clients.talk import (
    BOT,
    CONTACTS,
    GROUPS,
    PEERS,
    all_of,
    bot_writes,
    both_ways,
    deliver,
    establish_sessions,
    found_groups,
    in_groups,
    open_peers,
    text,
)

Noticed: TypeAlias = Callable[[], None]
"""Returns once a write of the bot has failed, and waits to be repeated."""


@contextmanager
def connected(folder: Path, site: Site, **options: Any) -> Iterator[Accounts]:
    """The bot as a process, its state loaded."""
    with Accounts(folder, site.token) as bot:
        bot.do(BOT, "open", keystore=site.keystore(**options))
        yield bot


def test_a_killed_bot_resumes_and_every_later_message_decrypts(site: Site, each_baileys: Path) -> None:
    with Accounts(each_baileys) as peers:
        open_peers(peers)
        with connected(each_baileys, site) as bot:
            establish_sessions(bot, peers)
            found_groups(bot, peers)
            in_groups(bot, peers, "before")
            bot.do(BOT, "mapLids", pairs=list(CONTACTS))
            first_epoch = bot.do(BOT, "stats")["epoch"]
            bot.kill()
        with connected(each_baileys, site) as bot:
            stats = bot.do(BOT, "stats")
            assert stats["epoch"] == first_epoch + 1
            assert stats["keys"] >= len(PEERS) + 3 * len(GROUPS) + len(CONTACTS)
            both_ways(bot, peers, "after a kill")
            in_groups(bot, peers, "after a kill")
            for contact in CONTACTS:
                assert bot.do(BOT, "lidOf", pn=contact["pn"]) == contact["lid"]
            # In the middle of a burst: what it had answered was saved, and is sent.
            answers = [bot.ask(BOT, "encrypt", jid=jid, text=text("burst", jid)) for jid in PEERS]
            answers[len(answers) // 3].result(30)
            bot.kill()
            sent = {jid: answer.result(0) for jid, answer in zip(PEERS, answers, strict=True) if not answer.cancelled()}
            assert len(sent) >= len(answers) // 3
            deliver(peers, sent.keys(), sent.values(), "burst")
        with connected(each_baileys, site) as bot:
            both_ways(bot, peers, "after a burst")
            both_ways(bot, peers, "and again")
            in_groups(bot, peers, "after a burst")
            bot.do(BOT, "close")
    with open_store(site.database_url) as store:
        state = store.load(COMPANY)
        assert state.creds is not None
        assert len(state.keys["session"]) == len(PEERS)
        assert len(state.keys["sender-key"]) == 3 * len(GROUPS)
        assert store.company_page().companies[0].lease is None, "close() gave it back"


def test_a_bot_reads_what_python_stored(site: Site, each_baileys: Path) -> None:
    with open_store(site.database_url) as store:
        store.set(COMPANY, real_keys(), real_creds())
    with connected(each_baileys, site) as bot:
        assert bot.do(BOT, "stats")["keys"] == sum(map(len, real_keys().values()))
        for key_type, values in real_keys().items():
            read = bot.do(BOT, "get", type=key_type, ids=[*values, "absent"])
            assert read == {key_id: json.loads(value) for key_id, value in values.items()}


def test_no_message_is_lost_when_the_service_restarts(site: Site, baileys: Path) -> None:
    def restart(is_noticed: Noticed) -> None:
        for how in (signal.SIGTERM, signal.SIGKILL):
            site.end(how)
            is_noticed()
            site.start()

    talk_through(restart, site, baileys)
    assert site.token not in site.logs


def test_no_message_is_lost_when_postgres_restarts(own_server: OwnServer, tmp_path: Path, baileys: Path) -> None:
    def restart(is_noticed: Noticed) -> None:
        for end in (own_server.server.stop, own_server.server.crash):
            end()
            is_noticed()
            own_server.server.start()

    with Site(own_server.url, tmp_path, free_port()) as site:
        talk_through(restart, site, baileys)


def talk_through(restart: Callable[[Noticed], None], site: Site, baileys: Path) -> None:
    """Everybody talks before, during and after it. A message lost, or an error anywhere, fails."""
    with Accounts(baileys) as peers, connected(baileys, site) as bot:
        open_peers(peers)
        establish_sessions(bot, peers)
        found_groups(bot, peers)
        over = threading.Event()

        def talk() -> None:
            rounds = 0
            while not over.is_set() or rounds < 2:
                both_ways(bot, peers, f"round {rounds}")
                in_groups(bot, peers, f"round {rounds}")
                rounds += 1

        def is_noticed() -> None:
            before = bot.do(BOT, "stats")["retries"]
            eventually(lambda: bot.do(BOT, "stats")["retries"] > before, "a write has met it", 60)

        with ThreadPoolExecutor(1) as beside:
            talking = beside.submit(talk)
            try:
                restart(is_noticed)
            finally:
                over.set()
            talking.result(120)
        bot.kill()
        with connected(baileys, site) as again:
            both_ways(again, peers, "after all that")
            in_groups(again, peers, "after all that")


def test_of_two_bots_on_one_account_the_older_one_writes_nothing_more(site: Site, baileys: Path) -> None:
    with Accounts(baileys) as peers, connected(baileys, site, instance="older") as older:
        open_peers(peers)
        establish_sessions(older, peers)
        with Accounts(baileys, site.token) as newer:
            with pytest.raises(DeviceError, match=r"KeystoreLeaseHeld: .*409 lease-held.*/older"):
                newer.do(BOT, "open", keystore=site.keystore(instance="newer"))
            newer.do(BOT, "open", keystore=site.keystore(instance="newer", force=True))
            bot_writes(newer, peers, PEERS, "from the newer")
            with open_store(site.database_url) as store:
                before = store.load(COMPANY)
                writes = [older.ask(BOT, "set", data={"session": {f"stale-{n}": {"n": n}}}) for n in range(20)]
                writes += [older.ask(BOT, "save"), older.ask(BOT, "set", data={"session": {"4917011111111.0": None}})]
                for write in writes:
                    with pytest.raises(DeviceError, match=r"KeystoreLeaseLost: .*409 lease-lost"):
                        write.result(30)
                with pytest.raises(DeviceError, match="KeystoreLeaseLost"):
                    older.do(BOT, "set", data={"session": {"later": {}}})
                assert store.load(COMPANY) == before, "the older one overwrote something"
            eventually(lambda: older.do(BOT, "stats")["lost"] == 1, "the older one is told once")
            both_ways(newer, peers, "the newer goes on")


def test_a_restart_takes_its_lease_from_a_process_that_hangs(site: Site, baileys: Path) -> None:
    with connected(baileys, site) as hanging, connected(baileys, site) as restarted:
        restarted.do(BOT, "set", data={"session": {"a": {"by": "restarted"}}})
        with pytest.raises(DeviceError, match="KeystoreLeaseLost"):
            hanging.do(BOT, "set", data={"session": {"a": {"by": "hanging"}}})
        assert all_of([restarted.ask(BOT, "get", type="session", ids=["a"])]) == [{"a": {"by": "restarted"}}]
        restarted.do(BOT, "set", data={"session": {"a": {"by": "restarted, still"}}})


def test_a_lease_that_ran_out_in_an_outage_is_taken_back(site: Site, baileys: Path) -> None:
    with connected(baileys, site) as bot, open_store(site.database_url) as store:
        bot.do(BOT, "set", data={"session": {"a": {"n": 1}}})
        lease = store.company_page().companies[0].lease
        assert lease is not None
        store.release_company(COMPANY, lease.holder, lease.epoch)
        bot.do(BOT, "set", data={"session": {"a": {"n": 2}}})
        again = store.company_page().companies[0].lease
        assert again is not None
        assert (again.holder, again.epoch) == (lease.holder, lease.epoch + 2)
        assert store.load(COMPANY).keys["session"]["a"] == b'{"n":2}'


def test_what_a_bot_reads_from_memory_is_renewed(site: Site, baileys: Path) -> None:
    def expiry(key_id: str) -> datetime | None:
        with open_store(site.database_url) as store:
            return next(row.expires_at for row in store.export_rows(COMPANY) if row.key_id == key_id)

    with connected(baileys, site) as bot:
        bot.do(BOT, "set", data={"session": {"used": {}, "unused": {}}})
        soon = datetime.now(UTC) + timedelta(hours=1)
        with open_store(site.database_url) as store:
            rows = [replace(row, expires_at=soon) for row in store.export_rows(COMPANY)]
            store.restore_rows(COMPANY, rows)
        bot.do(BOT, "get", type="session", ids=["used"])
        bot.do(BOT, "close")
    assert expiry("unused") == soon
    renewed = expiry("used")
    assert renewed is not None
    assert renewed > soon + timedelta(days=1)
