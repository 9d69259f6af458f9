"""Real Baileys over the real service: killed bots, restarts of the service and database, two bots on one account."""

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from keystore import open_store
from monitor.recovery.restore import restore_company
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.postgres import OwnServer
from rig.relay import free_port
from rig.waiting import eventually
from tests.clients.accounts import Accounts, DeviceError
from tests.clients.conversation import (
    BOT,
    CONTACTS,
    FEW_GROUPS,
    GROUPS,
    PEERS,
    all_of,
    bot_writes,
    connected,
    deliver,
    establish_sessions,
    exchange_sender_keys,
    open_peers,
    talk_in_groups,
    text,
    write_both_ways,
)
from tests.clients.restartable_service import RestartableService

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bot")]

AwaitRetry: TypeAlias = Callable[[], None]
"""Returns once a write of the bot has failed and waits to be retried."""


def test_one_token_or_login_serves_three_accounts_of_a_process_and_no_other(
    service: RestartableService, baileys: Path
) -> None:
    companies = tuple(f"{service.company}of{number}" for number in range(3))
    service.admit(*companies)

    def options(company: str) -> dict[str, Any]:
        return service.keystore(shared=True) | {"company": company}

    with Accounts(baileys, service.token) as bot:
        for company in companies:
            bot.do(company, "open", keystore=options(company))
        for turn in range(3):
            data = {"session": {"a": {"turn": turn}}}
            for write in [bot.ask(company, "set", data=data) for company in companies]:
                write.result(30)
        with pytest.raises(DeviceError, match="KeystoreRefused"):
            bot.do("other", "open", keystore=options(f"{service.company}x"))
        with open_store(service.database_url) as store:
            for company in companies:
                assert store.load(company).keys == {"session": {"a": b'{"turn":2}'}}
                assert [lease.epoch for lease in [store.company_page(company).companies[0].lease] if lease] == [1]
            assert store.load(f"{service.company}x").total == 0


def test_a_killed_bot_resumes_and_every_later_message_decrypts(service: RestartableService, each_baileys: Path) -> None:
    with Accounts(each_baileys) as peers:
        open_peers(peers)
        with connected(each_baileys, service) as bot:
            establish_sessions(bot, peers)
            exchange_sender_keys(bot, peers)
            talk_in_groups(bot, peers, "before", FEW_GROUPS)
            bot.do(BOT, "mapLids", pairs=list(CONTACTS))
            first_epoch = bot.do(BOT, "stats")["epoch"]
            bot.kill()
        with connected(each_baileys, service) as bot:
            stats = bot.do(BOT, "stats")
            assert stats["epoch"] == first_epoch + 1
            assert stats["keys"] >= len(PEERS) + 3 * len(GROUPS) + len(CONTACTS)
            write_both_ways(bot, peers, "after a kill")
            talk_in_groups(bot, peers, "after a kill")
            for contact in CONTACTS:
                assert bot.do(BOT, "lidOf", pn=contact["pn"]) == contact["lid"]
            # Killed during a burst: the messages that it answered with are saved, so they are sent.
            answers = [bot.ask(BOT, "encrypt", jid=jid, text=text("burst", jid)) for jid in PEERS]
            answers[len(answers) // 3].result(30)
            bot.kill()
            sent = {jid: answer.result(0) for jid, answer in zip(PEERS, answers, strict=True) if not answer.cancelled()}
            assert len(sent) >= len(answers) // 3
            deliver(peers, sent.keys(), sent.values(), "burst")
        with connected(each_baileys, service) as bot:
            write_both_ways(bot, peers, "after a burst")
            write_both_ways(bot, peers, "and again")
            talk_in_groups(bot, peers, "after a burst", FEW_GROUPS)
            bot.do(BOT, "close")
    with open_store(service.database_url) as store:
        state = store.load(service.company)
        assert state.creds is not None
        assert len(state.keys["session"]) == len(PEERS)
        assert len(state.keys["sender-key"]) == 3 * len(GROUPS)
        assert store.company_page(service.company).companies[0].lease is None, "close() releases the lease"


def test_a_bot_reads_what_python_stored(service: RestartableService, each_baileys: Path) -> None:
    with open_store(service.database_url) as store:
        store.set(service.company, real_keys(), real_creds())
    with connected(each_baileys, service) as bot:
        assert bot.do(BOT, "stats")["keys"] == sum(map(len, real_keys().values()))
        for key_type, values in real_keys().items():
            read = bot.do(BOT, "get", type=key_type, ids=[*values, "absent"])
            assert read == {key_id: json.loads(value) for key_id, value in values.items()}


def test_no_message_is_lost_when_the_service_restarts(service: RestartableService, baileys: Path) -> None:
    def restart(await_retry: AwaitRetry) -> None:
        for how in (signal.SIGTERM, signal.SIGKILL):
            service.stop(how)
            if not service.straight:  # Nothing fails there.
                await_retry()
            service.start()

    talk_through(restart, service, baileys)
    assert not service.token or service.token not in service.logs


@pytest.mark.parametrize("straight", [False, True], ids=["http", "straight"])
def test_no_message_is_lost_when_postgres_restarts(
    own_server: OwnServer, tmp_path: Path, baileys: Path, straight: bool
) -> None:
    def restart(await_retry: AwaitRetry) -> None:
        for end in (own_server.server.stop, own_server.server.crash):
            end()
            await_retry()
            own_server.server.start()

    own_server.let_owner_make_logins()
    with RestartableService(own_server.url, tmp_path, free_port(), straight=straight) as service:
        service.admit("acme")
        talk_through(restart, service, baileys)


def talk_through(restart: Callable[[AwaitRetry], None], service: RestartableService, baileys: Path) -> None:
    """Exchange messages before, during and after a restart. A lost message or any error fails the test."""
    with Accounts(baileys) as peers, connected(baileys, service) as bot:
        open_peers(peers)
        establish_sessions(bot, peers)
        exchange_sender_keys(bot, peers, FEW_GROUPS)
        over = threading.Event()

        def talk() -> None:
            rounds = 0
            while not over.is_set() or rounds < 2:
                write_both_ways(bot, peers, f"round {rounds}")
                talk_in_groups(bot, peers, f"round {rounds}", FEW_GROUPS)
                rounds += 1

        def await_retry() -> None:
            before = bot.do(BOT, "stats")["retries"]
            eventually(lambda: bot.do(BOT, "stats")["retries"] > before, "a write waits to be retried", 60)

        with ThreadPoolExecutor(1) as pool:
            talking = pool.submit(talk)
            try:
                restart(await_retry)
            finally:
                over.set()
            talking.result(120)
        bot.kill()
        with connected(baileys, service) as again:
            write_both_ways(again, peers, "after all that")
            talk_in_groups(again, peers, "after all that", FEW_GROUPS)


def test_the_older_of_two_bots_on_one_account_writes_nothing_more(service: RestartableService, baileys: Path) -> None:
    with Accounts(baileys) as peers, connected(baileys, service, instance="older") as older:
        open_peers(peers)
        establish_sessions(older, peers)
        with Accounts(baileys, service.token) as newer:
            with pytest.raises(DeviceError, match=r"KeystoreLeaseHeld: .*/older"):
                newer.do(BOT, "open", keystore=service.keystore(instance="newer"))
            newer.do(BOT, "open", keystore=service.keystore(instance="newer", force=True))
            bot_writes(newer, peers, PEERS, "from the newer")
            with open_store(service.database_url) as store:
                before = store.load(service.company)
                writes = [older.ask(BOT, "set", data={"session": {f"stale-{n}": {"n": n}}}) for n in range(20)]
                writes += [older.ask(BOT, "save"), older.ask(BOT, "set", data={"session": {"4917011111111.0": None}})]
                for write in writes:
                    with pytest.raises(DeviceError, match="KeystoreLeaseLost"):
                        write.result(30)
                with pytest.raises(DeviceError, match="KeystoreLeaseLost"):
                    older.do(BOT, "set", data={"session": {"later": {}}})
                assert store.load(service.company) == before, "the older bot overwrote something"
            eventually(lambda: older.do(BOT, "stats")["lost"] == 1, "the older bot learns of it once")
            write_both_ways(newer, peers, "the newer goes on")


def test_a_hanging_process_has_its_lease_until_it_runs_out(service: RestartableService, baileys: Path) -> None:
    with connected(baileys, service, leaseTtlS=5) as hanging, Accounts(baileys, service.token) as restarted:
        hanging.do(BOT, "set", data={"session": {"a": {"by": "hanging"}}})
        os.kill(hanging.pid, signal.SIGSTOP)
        with pytest.raises(DeviceError, match=f"KeystoreLeaseHeld.*process {hanging.pid} of this machine"):
            restarted.do(BOT, "open", keystore=service.keystore())
        restarted.do(BOT, "open", keystore=service.keystore(waitForLease=True))
        restarted.do(BOT, "set", data={"session": {"a": {"by": "restarted"}}})
        os.kill(hanging.pid, signal.SIGCONT)
        with pytest.raises(DeviceError, match="KeystoreLeaseLost"):
            hanging.do(BOT, "set", data={"session": {"a": {"by": "hanging, still"}}})
        assert all_of([restarted.ask(BOT, "get", type="session", ids=["a"])]) == [{"a": {"by": "restarted"}}]
        restarted.do(BOT, "set", data={"session": {"a": {"by": "restarted, still"}}})


def test_a_bot_whose_lease_ran_out_goes_on(service: RestartableService, baileys: Path) -> None:
    with connected(baileys, service, leaseTtlS=5) as bot, open_store(service.database_url) as store:
        bot.do(BOT, "set", data={"session": {"a": {"n": 1}}})
        lease = store.company_page(service.company).companies[0].lease
        assert lease is not None
        assert lease.holder.endswith(f"#{bot.pid}")
        os.kill(bot.pid, signal.SIGSTOP)
        eventually(lambda: store.company_page(service.company).companies[0].lease is None, "the lease runs out", 20)
        os.kill(bot.pid, signal.SIGCONT)
        bot.do(BOT, "set", data={"session": {"a": {"n": 2, "name": "Ann \ud83d"}}})
        again = store.company_page(service.company).companies[0].lease
        assert again is not None
        assert (again.holder, again.epoch) == (lease.holder, lease.epoch)
        assert store.load(service.company).keys["session"]["a"] == b'{"n":2,"name":"Ann \\ud83d"}'
        os.kill(bot.pid, signal.SIGSTOP)
        eventually(
            lambda: store.company_page(service.company).companies[0].lease is None, "the lease runs out again", 20
        )
        store.set(service.company, {"session": {"a": b'{"n":3}'}})
        os.kill(bot.pid, signal.SIGCONT)
        with pytest.raises(DeviceError, match="KeystoreLeaseLost"):
            bot.do(BOT, "set", data={"session": {"a": {"n": 4}}})
        assert store.load(service.company).keys["session"]["a"] == b'{"n":3}'


def test_a_cleared_account_comes_back_by_a_restore(service: RestartableService, baileys: Path) -> None:
    with open_store(service.database_url) as store:
        store.set(service.company, real_keys(), real_creds())
        before = store.load(service.company)
        with connected(baileys, service) as bot:
            all_of([bot.ask(BOT, "clear"), bot.ask(BOT, "set", data={"session": {"later": {"n": 1}}})])
            assert bot.do(BOT, "stats")["keys"] == 1
            cleared = store.load(service.company)
            assert (cleared.creds, cleared.keys) == (before.creds, {"session": {"later": b'{"n":1}'}})
            bot.do(BOT, "close")
        report = restore_company(store, service.company)
        assert (report.keys, report.creds, report.replaced) == (before.total, False, 1)
        after = store.load(service.company)
        assert (after.creds, after.keys) == (before.creds, before.keys)


def test_half_of_a_surrogate_pair_comes_back(service: RestartableService, baileys: Path) -> None:
    value = {"name": "Ann \ud83d"}
    with connected(baileys, service) as bot:
        bot.do(BOT, "set", data={"session": {"a": value}})
        bot.do(BOT, "close")
    with connected(baileys, service) as bot:
        assert bot.do(BOT, "get", type="session", ids=["a"]) == {"a": value}


def test_a_revoked_token_or_login_ends_the_account_loudly(service: RestartableService, baileys: Path) -> None:
    with connected(baileys, service) as bot, open_store(service.database_url) as store:
        bot.do(BOT, "set", data={"session": {"a": {"n": 1}}})
        before = store.load(service.company)
        service.revoke()

        def is_refused() -> bool:
            try:
                bot.do(BOT, "set", data={"session": {"b": {"n": 1}}})
            except DeviceError as error:
                return "KeystoreRefused" in str(error)
            return False

        eventually(is_refused, "the worker has noticed that the token is revoked", 20)
        assert bot.do(BOT, "stats")["saveFailed"]
        with pytest.raises(DeviceError, match="KeystoreRefused"):
            bot.do(BOT, "close")
        assert store.load(service.company).keys["session"]["a"] == before.keys["session"]["a"]


def test_keys_that_a_bot_reads_from_memory_are_renewed(service: RestartableService, baileys: Path) -> None:
    def expiry(key_id: str) -> datetime | None:
        with open_store(service.database_url) as store:
            return next(row.expires_at for row in store.export_rows(service.company) if row.key_id == key_id)

    soon = datetime.now(UTC) + timedelta(hours=1)
    with open_store(service.database_url) as store:
        store.set(service.company, {"session": {"used": b"{}", "unused": b"{}"}})
        store.restore_rows(
            service.company, [replace(row, expires_at=soon) for row in store.export_rows(service.company)]
        )
    with connected(baileys, service) as bot:
        bot.do(BOT, "get", type="session", ids=["used"])
        bot.do(BOT, "close")
    assert expiry("unused") == soon
    renewed = expiry("used")
    assert renewed is not None
    assert renewed > soon + timedelta(days=1)
