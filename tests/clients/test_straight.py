"""Bots straight on PostgreSQL: without the service, behind a pooler, and many on two connections."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from keystore import open_store
from monitor.alerts.lost_writes import lost_writes
from monitor.alerts.memory import bot_reports
from rig.fixtures.postgres import PostgresSite
from rig.pgbouncer import pgbouncer, pgbouncer_program
from rig.relay import address_at, free_port
from rig.waiting import eventually
from tests.clients.accounts import Accounts, DeviceError
from tests.clients.conftest import may_make_logins
from tests.clients.conversation import BOT, PEERS, establish_sessions, open_peers, write_both_ways
from tests.clients.restartable_service import login_address

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("straight")]

COMPANIES = tuple(f"c{number:02}" for number in range(20))


class Straight:
    """A migrated database without any service, and the address of a bot's login for some companies."""

    def __init__(self, url: str, companies: tuple[str, ...]) -> None:
        self.url = url
        self.address = login_address(url, companies)

    def keystore(self, company: str = COMPANIES[0], **options: Any) -> dict[str, Any]:
        """A bot's options."""
        return {"url": self.address, "company": company, **options}


@pytest.fixture
def straight(postgres_site: PostgresSite, migrated_postgres_url: str) -> Iterator[Straight]:
    """A database, and a login for twenty companies."""
    with may_make_logins(postgres_site, migrated_postgres_url.rpartition("/")[2]):
        yield Straight(migrated_postgres_url, COMPANIES)


@pytest.fixture
def bot(baileys: Path) -> Iterator[Accounts]:
    """A process for bots."""
    with Accounts(baileys) as accounts:
        yield accounts


def test_a_bot_needs_no_service_and_the_service_sees_it_later(straight: Straight, bot: Accounts, baileys: Path) -> None:
    with Accounts(baileys) as peers:
        open_peers(peers)
        bot.do(BOT, "open", keystore=straight.keystore(leaseTtlS=5))
        establish_sessions(bot, peers)
        write_both_ways(bot, peers, "without a service")
    with open_store(straight.url) as store:
        lease = store.company_page(COMPANIES[0]).companies[0].lease
        assert lease is not None
        eventually(
            lambda: store.company_page(COMPANIES[0]).companies[0].lease != lease, "the bot renews its lease itself", 20
        )
        state = store.load(COMPANIES[0])
        assert len(state.keys["session"]) == len(PEERS)
        assert {row.expires_at is None for row in store.export_rows(COMPANIES[0])} == {False}
        bot.do(BOT, "close")
        now = store.now()
        counted = {(count.event, count.key_type): count.keys for count in store.counts(now - timedelta(hours=1))}
        assert counted["created", "session"] == len(PEERS)
        assert counted["renewed", "session"] > 2 * len(PEERS)
        assert bot_reports(store, now) == {}, "a bot that was closed isn't missed"


def test_a_burst_and_the_memory_are_reported_as_those_of_a_bot_over_http(straight: Straight, bot: Accounts) -> None:
    bot.do(BOT, "open", keystore=straight.keystore())
    bot.do(BOT, "set", data={"pre-key": {str(number): {"n": number} for number in range(250)}})
    bot.do(BOT, "set", data={"odd-type": {"a": 1}, "session": {"a": 1}})
    bot.do(BOT, "set", data={"session": {"a": None}})
    bot.do(BOT, "clear")
    bot.do(BOT, "report")
    with open_store(straight.url) as store:
        eventually(lambda: bool(bot_reports(store, store.now())), "the report arrives")
        now = store.now()
        since = now - timedelta(hours=1)
        counted = {(count.event, count.key_type): count.keys for count in store.counts(since)}
        assert counted == {
            ("created", "pre-key"): 250,
            ("created", "other"): 1,
            ("created", "session"): 1,
            ("deleted", "session"): 1,
            ("cleared", "pre-key"): 250,
            ("cleared", "other"): 1,
        }
        assert [burst.keys for burst in store.bursts(since)] == [250]
        report = bot_reports(store, now)[COMPANIES[0]]
        assert 0 < report.memory.heap_used_bytes < report.memory.heap_limit_bytes


def test_a_used_key_is_renewed_and_one_that_is_gone_is_written_again(straight: Straight, bot: Accounts) -> None:
    with open_store(straight.url) as store:
        store.set(COMPANIES[0], {"session": {"used": b"{}", "swept": b'{"n":1}', "unused": b"{}"}})
        soon = store.now() + timedelta(hours=1)
        rows = [replace(row, expires_at=soon) for row in store.export_rows(COMPANIES[0])]
        store.restore_rows(COMPANIES[0], rows)
        bot.do(BOT, "open", keystore=straight.keystore())
        epoch = store.load(COMPANIES[0]).epoch
        store.set(COMPANIES[0], {"session": {"swept": None}}, epoch=epoch)
        bot.do(BOT, "get", type="session", ids=["used", "swept"])
        bot.do(BOT, "report")
        eventually(lambda: "swept" in store.load(COMPANIES[0]).keys["session"], "the key is there again")
        expiries = {row.key_id: row.expires_at for row in store.export_rows(COMPANIES[0])}
        assert expiries["unused"] == soon
        assert expiries["used"] is not None
        assert expiries["used"] > soon + timedelta(days=1)


def test_a_login_reaches_no_other_company(straight: Straight, bot: Accounts) -> None:
    with open_store(straight.url) as store:
        store.set("stranger", {"session": {"a": b"{}"}})
        with pytest.raises(DeviceError, match=r"KeystoreRefused: .*is not for this company"):
            bot.do(BOT, "open", keystore=straight.keystore("stranger", connectForMs=1))
        wrong = straight.address.replace("@", "wrong@")
        with pytest.raises(DeviceError, match=r"KeystoreRefused: .*password authentication failed"):
            bot.do(BOT, "open", keystore={"url": wrong, "company": COMPANIES[0], "connectForMs": 1})
        assert store.load("stranger").keys == {"session": {"a": b"{}"}}


def test_a_database_that_went_back_gets_the_whole_state(straight: Straight, bot: Accounts) -> None:
    company = COMPANIES[0]
    bot.do(BOT, "open", keystore=straight.keystore(leaseTtlS=5))
    bot.do(BOT, "set", data={"session": {"a": {"n": 1}, "gone": {"n": 1}}})
    with open_store(straight.url) as store, closing(owner_of(straight)) as owner:
        backup = store.load(company)
        bot.do(BOT, "set", data={"session": {"a": {"n": 2}, "gone": None}})
        bot.do(BOT, "set", data={"session": {"b": {"n": 3}}})
        with owner.transaction():
            owner.execute("DELETE FROM whatsapp_keys WHERE company_id = %s", [company])
            for key_id, value in backup.keys["session"].items():
                owner.execute(
                    "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value) VALUES (%s, 'session', %s, %s)",
                    [company, key_id, b"\0" + value],
                )
            owner.execute("UPDATE keystore_company_leases SET seq = %s WHERE company_id = %s", [backup.seq, company])
        expected = {"session": {"a": b'{"n":2}', "b": b'{"n":3}'}}
        eventually(lambda: store.load(company).keys == expected, "the bot has written its state", 20)
        assert bot.do(BOT, "stats")["databaseWentBack"] == 1
        assert "write 3 of epoch 1 was acknowledged" in lost_writes(store, store.now())[company]


@pytest.mark.skipif(pgbouncer_program() is None, reason="pgbouncer isn't installed")
def test_no_message_is_lost_behind_a_pooler_that_is_killed(
    postgres_site: PostgresSite, straight: Straight, bot: Accounts, baileys: Path
) -> None:
    with closing(postgres_site.admin()) as admin:
        rows = admin.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'bot\\_%'").fetchall()
    program, port = str(pgbouncer_program()), free_port()

    def pooler() -> Any:
        return pgbouncer(program, postgres_site.host, postgres_site.port, dict(rows), port)

    with ExitStack() as running, Accounts(baileys) as peers:
        running.enter_context(pooler())
        open_peers(peers)
        keystore = straight.keystore() | {"url": address_at(straight.address, "127.0.0.1", port)}
        bot.do(BOT, "open", keystore=keystore)
        establish_sessions(bot, peers)
        for turn in range(2):
            running.close()
            failed: int = bot.do(BOT, "stats")["retries"]
            waiting = bot.ask(BOT, "set", data={"session": {"waits": {"n": turn}}})
            await_retry(bot, failed)
            running.enter_context(pooler())
            waiting.result(60)
            write_both_ways(bot, peers, f"after restart {turn}")
        bot.kill()
        with Accounts(baileys) as again:
            again.do(BOT, "open", keystore=keystore)
            write_both_ways(again, peers, "after all that")


def test_twenty_accounts_share_two_connections_and_one_that_ends_stops_no_other(
    straight: Straight, bot: Accounts
) -> None:
    for company in COMPANIES:
        bot.do(company, "open", keystore=straight.keystore(company, shared=True))
    before = bot.do(COMPANIES[0], "stats")["requests"]
    writes = [bot.ask(company, "set", data={"session": {"a": {"of": company}}}) for company in COMPANIES]
    for write in writes:
        write.result(30)
    assert bot.do(COMPANIES[0], "stats")["requests"] - before < len(COMPANIES)
    with open_store(straight.url) as store, closing(owner_of(straight)) as owner:
        ((connections,),) = owner.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'bot\\_%'"
        ).fetchall()
        assert connections <= 2
        store.lease_company(COMPANIES[3], "another", 60, force=True)
        writes = [bot.ask(company, "set", data={"session": {"a": {"second": company}}}) for company in COMPANIES]
        for company, write in zip(COMPANIES, writes, strict=True):
            if company == COMPANIES[3]:
                with pytest.raises(DeviceError, match="KeystoreLeaseLost"):
                    write.result(30)
            else:
                write.result(30)
                expected = f'{{"second":"{company}"}}'.encode()
                assert store.load(company).keys == {"session": {"a": expected}}


@pytest.mark.parametrize(
    ("program", "tried"), [("interleavings", "closes: PostgreSQL"), ("lost-connections", "are given up too")]
)
def test_the_clients_own_tests_pass_on_a_database(straight: Straight, client: Path, program: str, tried: str) -> None:
    with closing(owner_of(straight)) as owner:
        owner.execute("UPDATE keystore_logins SET company_id = 'acme' WHERE company_id = %s", [COMPANIES[0]])
    done = subprocess.run(
        ["node", "--test", f"test/{program}.test.mjs"],
        cwd=client,
        env={
            "PATH": os.environ["PATH"],
            "KEYSTORE_TEST_BOT": straight.address,
            "KEYSTORE_TEST_OWNER": straight.url,
            "INTERLEAVINGS": os.environ.get("INTERLEAVINGS", "50"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert tried in done.stdout


def await_retry(bot: Accounts, before: int) -> None:
    """Wait until a write of the bot has failed once more."""
    eventually(lambda: bot.do(BOT, "stats")["retries"] > before, "a write waits to be retried", 60)


def owner_of(straight: Straight) -> psycopg.Connection[Any]:
    """A connection of the owner."""
    return psycopg.connect(straight.url, autocommit=True)
