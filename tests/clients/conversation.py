"""Messages among three WhatsApp accounts: a bot with its state in the store, and two peers with theirs in memory.

Each peer has 8 devices, so the bot has 16 libsignal sessions. These functions act as the server: they carry each
encrypted message to its receiver, which must decrypt it to the text that was sent.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.accounts import ANSWER_TIMEOUT_S, Accounts
from tests.clients.restartable_service import RestartableService

BOT = "4915100000000@s.whatsapp.net"
DEVICES = 8
USERS = ("4917011111111", "4917022222222")
GROUPS = tuple(f"12036300000000{number:04}@g.us" for number in range(5))
FEW_GROUPS = GROUPS[:2]
"""For tests in which the number of groups changes nothing: a message in a group takes 70 ms of processor time."""

CONTACTS = tuple({"pn": f"4916{number:08}@s.whatsapp.net", "lid": f"2000{number:011}@lid"} for number in range(1, 41))


def peer_jids() -> list[str]:
    """The device ids of the two peers."""
    return [
        f"{user}:{device}@s.whatsapp.net" if device else f"{user}@s.whatsapp.net"
        for user in USERS
        for device in range(DEVICES)
    ]


PEERS = tuple(peer_jids())
IN_GROUPS = (PEERS[0], PEERS[DEVICES])
"""The devices that talk in groups: the phone of each peer."""


@contextmanager
def connected(folder: Path, service: RestartableService, **options: Any) -> Iterator[Accounts]:
    """A bot's process with its state loaded."""
    with Accounts(folder, service.token) as bot:
        bot.do(BOT, "open", keystore=service.keystore(**options))
        yield bot


def all_of(answers: Iterable[Future[Any]]) -> list[Any]:
    """Wait for every answer and return them. Raises the first DeviceError."""
    return [answer.result(ANSWER_TIMEOUT_S) for answer in answers]


def open_peers(peers: Accounts) -> None:
    """Create the devices of the peers."""
    all_of([peers.ask(jid, "open") for jid in PEERS])


def establish_sessions(bot: Accounts, peers: Accounts) -> None:
    """Establish the sessions: half begun by the bot, half by a peer with one of the bot's pre-keys."""
    half = len(PEERS) // 2
    begun_by_bot, begun_by_peer = PEERS[:half], PEERS[half:]
    bundles = [answer[0] for answer in all_of([peers.ask(jid, "bundles", count=1) for jid in begun_by_bot])]
    all_of([bot.ask(BOT, "session", jid=jid, bundle=bundle) for jid, bundle in zip(begun_by_bot, bundles, strict=True)])
    bundles = bot.do(BOT, "bundles", count=len(begun_by_peer))
    all_of(
        [peers.ask(jid, "session", jid=BOT, bundle=bundle) for jid, bundle in zip(begun_by_peer, bundles, strict=True)]
    )
    bot_writes(bot, peers, begun_by_bot, "first of all")
    peers_write(bot, peers, begun_by_peer, "first of all")
    bot_writes(bot, peers, begun_by_peer, "answer")
    peers_write(bot, peers, begun_by_bot, "answer")


def bot_writes(bot: Accounts, peers: Accounts, to: Iterable[str], topic: str) -> None:
    """Send a message from the bot to each device, which must read it."""
    to = list(to)
    deliver(peers, to, all_of([bot.ask(BOT, "encrypt", jid=jid, text=text(topic, jid)) for jid in to]), topic)


def deliver(peers: Accounts, to: Iterable[str], sent: Iterable[Any], topic: str) -> None:
    """Deliver messages that the bot encrypted to the devices, which must read them."""
    to = list(to)
    read = all_of([peers.ask(jid, "decrypt", jid=BOT, **message) for jid, message in zip(to, sent, strict=True)])
    assert read == [text(topic, jid) for jid in to]


def peers_write(bot: Accounts, peers: Accounts, senders: Iterable[str], topic: str) -> None:
    """Send a message from each device to the bot, which must read it."""
    senders = list(senders)
    sent = all_of([peers.ask(jid, "encrypt", jid=BOT, text=text(topic, jid)) for jid in senders])
    read = all_of([bot.ask(BOT, "decrypt", jid=jid, **message) for jid, message in zip(senders, sent, strict=True)])
    assert read == [text(topic, jid) for jid in senders]


def write_both_ways(bot: Accounts, peers: Accounts, topic: str) -> None:
    """Send a message from every device to the bot and back."""
    bot_writes(bot, peers, PEERS, topic)
    peers_write(bot, peers, PEERS, topic)


def exchange_sender_keys(bot: Accounts, peers: Accounts, groups: Sequence[str] = GROUPS) -> None:
    """Exchange the sender keys of all members in these groups."""
    for group in groups:
        message = bot.do(BOT, "groupEncrypt", group=group, text="here is my sender key")
        all_of([peers.ask(jid, "senderKey", group=group, author=BOT, skdm=message["skdm"]) for jid in IN_GROUPS])
        for jid in IN_GROUPS:
            message = peers.do(jid, "groupEncrypt", group=group, text="here is my sender key")
            bot.do(BOT, "senderKey", group=group, author=jid, skdm=message["skdm"])


def talk_in_groups(bot: Accounts, peers: Accounts, topic: str, groups: Sequence[str] = GROUPS) -> None:
    """Send a message from each member in these groups; all other members must read it."""
    sent = all_of([bot.ask(BOT, "groupEncrypt", group=group, text=text(topic, group)) for group in groups])
    for group, message in zip(groups, sent, strict=True):
        for jid in IN_GROUPS:
            read = peers.do(jid, "groupDecrypt", group=group, author=BOT, ciphertext=message["ciphertext"])
            assert read == text(topic, group)
    for jid in IN_GROUPS:
        sent = all_of([peers.ask(jid, "groupEncrypt", group=group, text=text(topic, group)) for group in groups])
        read = all_of(
            [
                bot.ask(BOT, "groupDecrypt", group=group, author=jid, ciphertext=message["ciphertext"])
                for group, message in zip(groups, sent, strict=True)
            ]
        )
        assert read == [text(topic, group) for group in groups]


def text(topic: str, jid: str) -> str:
    """The text of a message, different for each topic and each receiver or sender."""
    return f"{topic}, {jid} – ✓"
