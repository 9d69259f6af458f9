"""A database that is put back to an old backup, with real sessions: what breaks, and how `rolled-back` mends it."""

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rig.relay import free_port
from tests.acceptance.in_process import run_json
from tests.clients.accounts import Accounts, DeviceError
from tests.clients.conversation import (
    BOT,
    GROUPS,
    IN_GROUPS,
    PEERS,
    connected,
    establish_sessions,
    exchange_sender_keys,
    open_peers,
    talk_in_groups,
    text,
    write_both_ways,
)
from tests.clients.restartable_service import RestartableService

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rolled-back")]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RestartableService]:
    with RestartableService(f"sqlite:///{tmp_path}/k.db", tmp_path, free_port()) as service:
        service.admit("acme")
        yield service


def test_a_bot_goes_on_after_a_backup_was_restored(service: RestartableService, tmp_path: Path, baileys: Path) -> None:
    file, backup = tmp_path / "k.db", tmp_path / "backup.db"
    with Accounts(baileys) as peers:
        open_peers(peers)
        with connected(baileys, service) as bot:
            establish_sessions(bot, peers)
            exchange_sender_keys(bot, peers)
            talk_in_groups(bot, peers, "before the backup")
            bot.do(BOT, "close")
        with closing(sqlite3.connect(file)) as source:
            source.execute("VACUUM INTO ?", [str(backup)])
        with connected(baileys, service) as bot:
            for topic in ("since then", "and again"):
                write_both_ways(bot, peers, topic)
                talk_in_groups(bot, peers, topic)
            given_out = [bundle["preKey"]["keyId"] for bundle in bot.do(BOT, "bundles", count=5)]
            bot.do(BOT, "close")

        put_back(service, backup, file)
        with connected(baileys, service) as bot:
            unread = [
                jid for jid in PEERS if not reads(peers, jid, bot.do(BOT, "encrypt", jid=jid, text="old ratchet"))
            ]
            assert unread == list(PEERS), "no message of an old ratchet is read"
            first = bot.do(BOT, "bundles", count=1)[0]["preKey"]["keyId"]
            assert first in given_out, "an id is given out twice"
            bot.do(BOT, "close")

        put_back(service, backup, file, stopped=True)
        report = run_json("rolled-back", "--yes", url=service.database_url)
        assert (report["companies"], report["leased"]) == (1, [])
        assert report["keys"] >= len(PEERS) + len(GROUPS)
        service.start()
        with connected(baileys, service) as bot:
            half = len(PEERS) // 2
            assert bot_writes_first(bot, peers, PEERS[:half]) == []
            repeated = peers_write_first(bot, peers, PEERS[half:], given_out)
            assert repeated == list(PEERS[half:]), "each contact's first message in an old session comes twice"
            for topic in ("later", "and later"):
                write_both_ways(bot, peers, topic)
            for group in GROUPS:
                share_sender_keys(bot, peers, group)
            talk_in_groups(bot, peers, "later")
            bot.do(BOT, "close")


def put_back(service: RestartableService, backup: Path, file: Path, *, stopped: bool = False) -> None:
    """Put the backup in the place of the database, as docs/backup.md says."""
    service.stop(signal.SIGTERM)
    for journal in ("-wal", "-shm"):
        Path(f"{file}{journal}").unlink(missing_ok=True)
    shutil.copyfile(backup, file)
    if not stopped:
        service.start()


def reads(peers: Accounts, jid: str, message: dict[str, str]) -> bool:
    """Return True if a device can decrypt the bot's message."""
    try:
        peers.do(jid, "decrypt", jid=BOT, **message)
    except DeviceError:
        return False
    return True


def bot_writes_first(bot: Accounts, peers: Accounts, to: tuple[str, ...]) -> list[str]:
    """Send a message to devices without a session, whose keys the bot asks for. Return those that can't read it."""
    unread = []
    for jid in to:
        with pytest.raises(DeviceError):
            bot.do(BOT, "encrypt", jid=jid, text="no session")
        bot.do(BOT, "session", jid=jid, bundle=peers.do(jid, "bundles", count=1)[0])
        if not reads(peers, jid, bot.do(BOT, "encrypt", jid=jid, text=text("new", jid))):
            unread.append(jid)
    return unread


def peers_write_first(bot: Accounts, peers: Accounts, senders: tuple[str, ...], given_out: list[int]) -> list[str]:
    """Send a message from each device in its old session. Return those whose message had to be sent again.

    WhatsApp's retry carries new keys of the bot, with which the sender begins a new session.
    """
    repeated = []
    for jid in senders:
        message = peers.do(jid, "encrypt", jid=BOT, text=text("first", jid))
        try:
            assert bot.do(BOT, "decrypt", jid=jid, **message) == text("first", jid)
        except DeviceError:
            repeated.append(jid)
            (bundle,) = bot.do(BOT, "bundles", count=1)
            assert bundle["preKey"]["keyId"] > max(given_out)
            peers.do(jid, "session", jid=BOT, bundle=bundle)
            message = peers.do(jid, "encrypt", jid=BOT, text=text("first", jid))
            assert bot.do(BOT, "decrypt", jid=jid, **message) == text("first", jid)
    return repeated


def share_sender_keys(bot: Accounts, peers: Accounts, group: str) -> None:
    """Send the sender keys of a group to each other, as the first message after a retry does."""
    message = bot.do(BOT, "groupEncrypt", group=group, text="mine")
    for jid in IN_GROUPS:
        peers.do(jid, "senderKey", group=group, author=BOT, skdm=message["skdm"])
        theirs = peers.do(jid, "groupEncrypt", group=group, text="mine")
        bot.do(BOT, "senderKey", group=group, author=jid, skdm=theirs["skdm"])
