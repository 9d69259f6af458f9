"""A bot that seals its values itself: real Baileys over the real service and straight on PostgreSQL."""

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from keystore import open_store
from keystore.sealing.sealed_form import SealingKey, full_name
from keystore.values.codec import is_sealed_by_bot
from rig.baileys_state import STATE_KEYS, real_creds, real_keys
from rig.waiting import eventually
from tests.clients.accounts import Accounts, DeviceError
from tests.clients.conversation import (
    BOT,
    CONTACTS,
    FEW_GROUPS,
    connected,
    establish_sessions,
    exchange_sender_keys,
    open_peers,
    talk_in_groups,
    write_both_ways,
)
from tests.clients.restartable_service import RestartableService
from tests.conformance.sealing.stored import execute

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sealed-bot")]

FIRST, SECOND = bytes(range(32)), bytes(range(100, 132))

UNSEALED = "lid-mapping"


def test_a_sealed_account_is_restarted_and_messages_decrypt(service: RestartableService, baileys: Path) -> None:
    with Accounts(baileys) as peers:
        open_peers(peers)
        with connected(baileys, service, secretKey=text(FIRST)) as bot:
            establish_sessions(bot, peers)
            exchange_sender_keys(bot, peers, FEW_GROUPS)
            bot.do(BOT, "mapLids", pairs=list(CONTACTS))
            write_both_ways(bot, peers, "before a kill")
            bot.kill()
        assert_all_sealed_by(service, FIRST)
        with connected(baileys, service, secretKey=text(FIRST)) as bot:
            write_both_ways(bot, peers, "after a kill")
            talk_in_groups(bot, peers, "after a kill", FEW_GROUPS)
            for contact in CONTACTS:
                assert bot.do(BOT, "lidOf", pn=contact["pn"]) == contact["lid"]
            stats = bot.do(BOT, "stats")
            assert (stats["sealing"], stats["unreadable"]) == (0, 0)
            bot.do(BOT, "close")
    assert_all_sealed_by(service, FIRST)
    assert rewritten_pre_keys(service) == 0


def test_a_plain_account_is_sealed_at_its_start_and_a_new_key_takes_over(
    service: RestartableService, baileys: Path
) -> None:
    with open_store(service.database_url) as store:
        store.set(service.company, real_keys(), real_creds())
    assert in_clear(service), "the search finds what is in clear"
    for secret_keys, newest in (([FIRST], FIRST), ([SECOND, FIRST], SECOND), ([SECOND], SECOND)):
        with connected(baileys, service, secretKey=[text(key) for key in secret_keys]) as bot:
            await_sealed(bot)
            for key_type, values in real_keys().items():
                read = bot.do(BOT, "get", type=key_type, ids=list(values))
                assert read == {key_id: json.loads(value) for key_id, value in values.items()}
            bot.do(BOT, "close")
        assert_all_sealed_by(service, newest)
        assert not in_clear(service)
    assert rewritten_pre_keys(service) == 0, "a new seal is no other value"
    with connected(baileys, service, secretKey=text(SECOND)) as bot:
        bot.do(BOT, "set", data={"pre-key": {next(iter(real_keys()["pre-key"])): {"another": "value"}}})
        assert rewritten_pre_keys(service) == 1
        bot.do(BOT, "close")


def test_without_the_right_key_nothing_opens_and_nothing_is_written(
    service: RestartableService, baileys: Path, bot: Accounts
) -> None:
    fill_sealed(service, baileys)
    before = stored(service)
    key_id = SealingKey(FIRST).id.hex()
    for options, advice in (({}, "secretKey is missing"), ({"secretKey": text(SECOND)}, "behind the newest")):
        with pytest.raises(DeviceError, match=rf"^KeystoreError: {service.company}: .*{key_id}.*{advice}"):
            bot.do(BOT, "open", keystore=service.keystore(**options))
        with open_store(service.database_url) as store:
            assert store.company_page(service.company).companies[0].lease is None, "the lease was released"
    assert stored(service) == before
    with pytest.raises(DeviceError, match=r"^KeystoreError: secretKey: key 1 isn't 32 bytes") as error:
        bot.do(BOT, "open", keystore=service.keystore(secretKey="S3CRET"))
    assert "S3CRET" not in str(error.value)


def test_swapped_and_changed_values_are_left_out_and_stay(
    service: RestartableService, baileys: Path, bot: Accounts
) -> None:
    fill_sealed(service, baileys)
    with open_store(service.database_url) as store:
        (first, first_value), (second, second_value), (third, third_value) = list(
            store.load(service.company).keys["session"].items()
        )[:3]
        changed = third_value[:-1] + bytes([third_value[-1] ^ 1])
        odd = {
            "session": {first: second_value, second: first_value, third: changed},
            "sender-key": {"moved": first_value},
        }
        store.set(service.company, odd)
        store.set(service.company, {"session": {"cut": b'{"a":'}})
    bot.do(BOT, "open", keystore=service.keystore(secretKey=text(FIRST)))
    assert bot.do(BOT, "get", type="session", ids=[first, second, third, "cut"]) == {}
    assert bot.do(BOT, "get", type="sender-key", ids=["moved"]) == {}
    stats = bot.do(BOT, "stats")
    assert (stats["unreadable"], stats["keys"]) == (5, STATE_KEYS - 3)
    bot.do(BOT, "close")
    with open_store(service.database_url) as store:
        keys = store.load(service.company).keys
        present = {key_type: {key_id: keys[key_type][key_id] for key_id in by_id} for key_type, by_id in odd.items()}
        assert present == odd
        assert keys["session"]["cut"] == b'{"a":'


def test_older_values_that_are_put_back_are_left_out_and_stay(service: RestartableService, bot: Accounts) -> None:
    company = service.company
    keystore = service.keystore(secretKey=text(FIRST))
    with open_store(service.database_url) as store:
        bot.do(BOT, "open", keystore=keystore)
        bot.do(BOT, "set", data={"session": {"a": {"n": 1}, "b": {"n": 1}}})
        row = f"company_id = '{company}' AND key_type = 'session' AND key_id = 'a'"
        execute(store, f"CREATE TABLE older AS SELECT * FROM whatsapp_keys WHERE {row}")
        bot.do(BOT, "set", data={"session": {"a": {"n": 2}}})
        bot.do(BOT, "close")
        execute(store, f"UPDATE whatsapp_keys SET value = (SELECT value FROM older) WHERE {row}")
        bot.do(BOT, "open", keystore=keystore)
        assert bot.do(BOT, "get", type="session", ids=["a", "b"]) == {"b": {"n": 1}}
        if service.straight:
            assert bot.do(BOT, "stats")["unreadable"] == 1
        bot.do(BOT, "set", data={"session": {"c": {"n": 1}}})
        assert store.load(company).keys["session"].keys() == {"b", "c"}
        unreadable = [value for value in store.unreadable() if value.company_id == company]
        assert [(value.key_type, value.key_id) for value in unreadable] == [("session", "a")]
        bot.do(BOT, "set", data={"session": {"a": {"n": 3}}})
        assert not {value for value in store.unreadable() if value.company_id == company}


def test_a_database_that_went_back_gets_the_whole_state_sealed(service: RestartableService, bot: Accounts) -> None:
    if service.database_url.startswith("sqlite"):
        pytest.skip("the rows of a server are put back while its service runs")
    company = service.company
    bot.do(BOT, "open", keystore=service.keystore(leaseTtlS=5, secretKey=text(FIRST)))
    bot.do(BOT, "set", data={"session": {"a": {"n": 1}, "gone": {"n": 1}}})
    odd = b"\x01" + b"no bot's key" * 10
    with open_store(service.database_url) as store, psycopg.connect(service.database_url, autocommit=True) as owner:
        backup = store.load(company)
        bot.do(BOT, "set", data={"session": {"a": {"n": 2}, "gone": None}})
        bot.do(BOT, "set", data={"session": {"b": {"n": 3}}})
        with owner.transaction():
            owner.execute("DELETE FROM whatsapp_keys WHERE company_id = %s", [company])
            for key_id, value in {**backup.keys["session"], "odd": odd}.items():
                owner.execute(
                    "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value) VALUES (%s, 'session', %s, %s)",
                    [company, key_id, b"\0" + value],
                )
            owner.execute("UPDATE keystore_company_leases SET seq = %s WHERE company_id = %s", [backup.seq, company])

        def sessions() -> dict[str, bytes]:
            return dict(store.load(company).keys.get("session", {}))

        eventually(lambda: sessions().keys() == {"a", "b", "odd"}, "the bot has written its state", 20)
        assert sessions().pop("odd") == odd, "what the bot can't read is not its to delete"
        opened = {
            key_id: json.loads(opened_by(FIRST, company, "session", key_id, sessions()[key_id])) for key_id in "ab"
        }
        assert opened == {"a": {"n": 2}, "b": {"n": 3}}
    assert bot.do(BOT, "stats")["databaseWentBack"] == 1
    assert bot.do(BOT, "stats")["unreadable"] == 1


@pytest.fixture
def bot(service: RestartableService, baileys: Path) -> Iterator[Accounts]:
    """A process for bots."""
    with Accounts(baileys, service.token) as accounts:
        yield accounts


def text(key: bytes) -> str:
    """A secret key as a bot's options have it."""
    return base64.b64encode(key).decode()


def fill_sealed(service: RestartableService, baileys: Path) -> None:
    """Store the real state, and let a bot seal it."""
    with open_store(service.database_url) as store:
        store.set(service.company, real_keys(), real_creds())
    with connected(baileys, service, secretKey=text(FIRST)) as bot:
        await_sealed(bot)
        bot.do(BOT, "close")


def await_sealed(bot: Accounts) -> None:
    """Wait until a bot has sealed its account."""
    eventually(lambda: bool(bot.do(BOT, "stats")["sealing"] == 0), "everything is sealed", 30)


def stored(service: RestartableService) -> tuple[bytes | None, Mapping[str, Mapping[str, bytes]]]:
    """The creds and keys as the store has them."""
    with open_store(service.database_url) as store:
        state = store.load(service.company)
        return state.creds, state.keys


def opened_by(key: bytes, company: str, key_type: str, key_id: str, value: bytes) -> bytes:
    """Open a value with the Python side's code."""
    return SealingKey(key).open(value, full_name(company, key_type, key_id))


def assert_all_sealed_by(service: RestartableService, key: bytes) -> None:
    """Assert that each value but the mappings is sealed by the bot with this key, and is JSON inside."""
    creds, keys = stored(service)
    assert creds is not None
    assert "noiseKey" in json.loads(opened_by(key, service.company, "", "", creds))
    for key_type, by_id in keys.items():
        for key_id, value in by_id.items():
            assert is_sealed_by_bot(value) is (key_type != UNSEALED)
            if key_type != UNSEALED:
                json.loads(opened_by(key, service.company, key_type, key_id, value))


def rewritten_pre_keys(service: RestartableService) -> int:
    """The number of the company's pre-keys that were counted as overwritten."""
    statement = "SELECT coalesce(sum(n), 0) FROM keystore_counters WHERE event = 'rewritten' AND company_id = "
    if service.database_url.startswith("sqlite"):
        with closing(sqlite3.connect(service.database_url.removeprefix("sqlite:///"))) as file:
            return int(file.execute(f"{statement}?", [service.company]).fetchone()[0])
    with psycopg.connect(service.database_url) as server:
        row = server.execute(f"{statement}%s", [service.company]).fetchone()
        assert row is not None
        return int(row[0])


def in_clear(service: RestartableService) -> set[str]:
    """The keys of the real state that stand anywhere in the company's rows, in base64 or as bytes."""
    texts = set[str]()
    for key_type, by_id in real_keys().items():
        if key_type != UNSEALED:
            for value in by_id.values():
                texts |= buffers(json.loads(value))
    texts |= buffers(json.loads(real_creds()))
    assert len(texts) > STATE_KEYS
    rows = b"\n".join(cells(service))
    return {key for key in texts if key.encode() in rows or base64.b64decode(key) in rows}


def buffers(document: Any) -> set[str]:
    """The base64 of each Buffer of 16 bytes and more in a value."""
    if isinstance(document, list):
        return set().union(*map(buffers, document))
    if not isinstance(document, dict):
        return set()
    if document.get("type") == "Buffer" and len(str(document["data"])) >= 24:
        return {document["data"]}
    return set().union(*map(buffers, document.values()))


def cells(service: RestartableService) -> Iterator[bytes]:
    """Every cell of the company's rows in every table that names a company."""
    if service.database_url.startswith("sqlite"):
        with closing(sqlite3.connect(service.database_url.removeprefix("sqlite:///"))) as file:
            for (table,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [row[1] for row in file.execute(f"PRAGMA table_info({table})").fetchall()]
                if "company_id" in columns:
                    for row in file.execute(f"SELECT * FROM {table} WHERE company_id = ?", [service.company]):
                        yield from map(as_bytes, row)
        return
    with psycopg.connect(service.database_url) as server:
        columns = server.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c JOIN information_schema.columns i "
            "USING (table_schema, table_name) WHERE i.column_name = 'company_id' AND c.table_schema = current_schema() "
            "AND c.data_type IN ('bytea', 'text', 'character varying', 'json', 'jsonb')"
        ).fetchall()
        for table, column in columns:
            query = sql.SQL("SELECT {} FROM {} WHERE company_id = %s")
            named = query.format(sql.Identifier(column), sql.Identifier(table))
            yield from (as_bytes(cell) for (cell,) in server.execute(named, [service.company]).fetchall())


def as_bytes(cell: object) -> bytes:
    """A cell as bytes, to be searched."""
    return cell if isinstance(cell, bytes) else str(cell).encode()
