"""`purge`: nothing in the database names the company afterwards, and every other company has what it had."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from keystore import LeaseLost, Store, open_store
from keystore.records import TokenRecord
from monitor.alerts.memory import BotMemory, report_memory
from monitor.recovery.purge import NOBODY, purge_company
from monitor.sweeper import sweep
from rig.fixtures.clock import Clock

COMPANY = "acme-962302"
OTHER = "acme-96"


def dump(url: str) -> str:
    """Return every row of every table as text."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(Path(url.removeprefix("sqlite:///")))) as file:
            return "\n".join(file.iterdump())
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        tables = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        texts = []
        for (table,) in tables:
            with conn.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as rows:
                texts += [bytes(row).decode() for row in rows]
        return "\n".join(texts)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    address: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return address


@pytest.fixture
def used(url: str, clock: Clock) -> str:
    """The address of a database in which two companies have everything that a company can have."""
    with open_store(url, clock=clock) as store:
        for company in (COMPANY, OTHER):
            lease = store.lease_company(company, f"bot of {company}", 60)
            keys = {"pre-key": {str(n): b"P" for n in range(150)}, "session": {"1.0": b"S"}}
            store.set(company, keys, creds=b'{"registrationId": 1}', epoch=lease.epoch, seq=1)
            store.set(company, {"pre-key": {"1": b"other"}}, creds=b'{"registrationId": 2}', epoch=lease.epoch, seq=2)
            store.clear(company, epoch=lease.epoch, seq=3)
            store.set(company, keys, creds=b'{"registrationId": 3}', epoch=lease.epoch, seq=4)
            store.release_company(company, f"bot of {company}", lease.epoch)
            token = f"token{'1' if company == COMPANY else '2'}"
            store.add_token(TokenRecord(token, b"\1" * 32, company, clock(), None, None))
            report_memory(store, company, BotMemory(1, 2, 3, 4))
        alerts = {"firing": [{"subject": COMPANY, "detail": f"{COMPANY} is silent, {OTHER} isn't"}], COMPANY: 1}
        store.remember("alerts", json.dumps(alerts))
        run = store.start_sweep("sweeper")
        store.finish_sweep(run, 1.0, f"held back: {COMPANY}")
        sweep(store)
    return url


def test_nothing_names_a_purged_company(used: str, clock: Clock) -> None:
    assert COMPANY in dump(used)
    with open_store(used, clock=clock) as store:
        of_another = store.load(OTHER), store.deletions(OTHER), store.find_token("token2")
        planned = purge_company(store, COMPANY, dry_run=True)
        assert (planned.keys, planned.rows) == (151, {})
        assert COMPANY in dump(used)
        report = purge_company(store, f"company_{COMPANY}")
        assert (store.load(OTHER), store.deletions(OTHER), store.find_token("token2")) == of_another
        assert report.rows["whatsapp_keys"] == 151
        assert report.documents == 2
        alerts = store.recall("alerts")
        assert alerts is not None
        assert json.loads(alerts.document) == {
            "firing": [{"subject": NOBODY, "detail": f"{NOBODY} is silent, {OTHER} isn't"}],
            NOBODY: 1,
        }
    assert COMPANY not in dump(used)
    assert OTHER in dump(used)


def test_a_running_bot_is_not_purged(used: str, clock: Clock) -> None:
    with open_store(used, clock=clock) as store:
        store.lease_company(COMPANY, "bot", 60)
        with pytest.raises(LeaseLost):
            purge_company(store, COMPANY)
        assert store.load(COMPANY).total == 151
        clock.advance(timedelta(minutes=2))
        purge_company(store, COMPANY)
        assert purge_company(store, COMPANY).keys == 0


def test_a_short_number_is_taken_out_as_a_name_alone(store: Store) -> None:
    document = {"30": 1, "at": "2026-11-26T14:30:00+00:30", "detail": "30: no heartbeat, 1.30 and 5,30 stay; of 30"}
    store.remember("alerts", json.dumps(document))
    store.set("30", {"session": {"a": b"A"}})
    purge_company(store, "30")
    note = store.recall("alerts")
    assert note is not None
    assert json.loads(note.document) == {
        NOBODY: 1,
        "at": "2026-11-26T14:30:00+00:30",
        "detail": f"{NOBODY}: no heartbeat, 1.30 and 5,30 stay; of {NOBODY}",
    }
