"""Three WhatsApp accounts that write to each other: a bot's, whose state is in the store, and two in memory.

Each of the two has 60 devices, so that the bot has 120 libsignal sessions. We are the server: we carry what one device
encrypts to the other, and every message must come out as it went in.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from tests.clients.node import ANSWER_TIMEOUT_S, Accounts

BOT = "4915100000000@s.whatsapp.net"
DEVICES = 60
USERS = ("4917011111111", "4917022222222")
GROUPS = tuple(f"12036300000000{number:04}@g.us" for number in range(15))
CONTACTS = tuple({"pn": f"4916{number:08}@s.whatsapp.net", "lid": f"2000{number:011}@lid"} for number in range(1, 41))


def peer_jids() -> list[str]:
    """The devices of the two accounts in memory."""
    return [
        f"{user}:{device}@s.whatsapp.net" if device else f"{user}@s.whatsapp.net"
        for user in USERS
        for device in range(DEVICES)
    ]


PEERS = tuple(peer_jids())
IN_GROUPS = (PEERS[0], PEERS[DEVICES])
"""Of each account the phone."""


def all_of(answers: Iterable[Future[Any]]) -> list[Any]:
    """Every answer; raises the first that is a refusal."""
    return [answer.result(ANSWER_TIMEOUT_S) for answer in answers]


def open_peers(peers: Accounts) -> None:
    """Makes the accounts in memory."""
    all_of([peers.ask(jid, "open") for jid in PEERS])


def establish_sessions(bot: Accounts, peers: Accounts) -> None:
    """120 sessions: half begun by the bot, half by a peer with a pre-key of the bot's."""
    half = len(PEERS) // 2
    begun_by_bot, begun_by_peer = PEERS[:half], PEERS[half:]
    bundles = [made[0] for made in all_of([peers.ask(jid, "bundles", count=1) for jid in begun_by_bot])]
    all_of([bot.ask(BOT, "session", jid=jid, bundle=one) for jid, one in zip(begun_by_bot, bundles, strict=True)])
    bundles = bot.do(BOT, "bundles", count=len(begun_by_peer))
    all_of([peers.ask(jid, "session", jid=BOT, bundle=one) for jid, one in zip(begun_by_peer, bundles, strict=True)])
    bot_writes(bot, peers, begun_by_bot, "first of all")
    peers_write(bot, peers, begun_by_peer, "first of all")
    bot_writes(bot, peers, begun_by_peer, "answer")
    peers_write(bot, peers, begun_by_bot, "answer")


def bot_writes(bot: Accounts, peers: Accounts, to: Iterable[str], what: str) -> None:
    """A message to each device; each reads it."""
    to = list(to)
    deliver(peers, to, all_of([bot.ask(BOT, "encrypt", jid=jid, text=text(what, jid)) for jid in to]), what)


def deliver(peers: Accounts, to: Iterable[str], sent: Iterable[Any], what: str) -> None:
    """Gives the devices what the bot encrypted; each reads it."""
    to = list(to)
    read = all_of([peers.ask(jid, "decrypt", jid=BOT, **one) for jid, one in zip(to, sent, strict=True)])
    assert read == [text(what, jid) for jid in to]


def peers_write(bot: Accounts, peers: Accounts, senders: Iterable[str], what: str) -> None:
    """A message from each device; the bot reads it."""
    senders = list(senders)
    sent = all_of([peers.ask(jid, "encrypt", jid=BOT, text=text(what, jid)) for jid in senders])
    read = all_of([bot.ask(BOT, "decrypt", jid=jid, **one) for jid, one in zip(senders, sent, strict=True)])
    assert read == [text(what, jid) for jid in senders]


def both_ways(bot: Accounts, peers: Accounts, what: str) -> None:
    """Everybody writes to the bot, and it to everybody."""
    bot_writes(bot, peers, PEERS, what)
    peers_write(bot, peers, PEERS, what)


def found_groups(bot: Accounts, peers: Accounts) -> None:
    """Everybody's sender key goes to everybody in every group."""
    for group in GROUPS:
        made = bot.do(BOT, "groupEncrypt", group=group, text="here is my sender key")
        all_of([peers.ask(jid, "senderKey", group=group, author=BOT, skdm=made["skdm"]) for jid in IN_GROUPS])
        for jid in IN_GROUPS:
            made = peers.do(jid, "groupEncrypt", group=group, text="here is my sender key")
            bot.do(BOT, "senderKey", group=group, author=jid, skdm=made["skdm"])


def in_groups(bot: Accounts, peers: Accounts, what: str) -> None:
    """Everybody says something in every group, and everybody else reads it."""
    sent = all_of([bot.ask(BOT, "groupEncrypt", group=group, text=text(what, group)) for group in GROUPS])
    for group, one in zip(GROUPS, sent, strict=True):
        for jid in IN_GROUPS:
            read = peers.do(jid, "groupDecrypt", group=group, author=BOT, ciphertext=one["ciphertext"])
            assert read == text(what, group)
    for jid in IN_GROUPS:
        sent = all_of([peers.ask(jid, "groupEncrypt", group=group, text=text(what, group)) for group in GROUPS])
        read = all_of(
            [
                bot.ask(BOT, "groupDecrypt", group=group, author=jid, ciphertext=one["ciphertext"])
                for group, one in zip(GROUPS, sent, strict=True)
            ]
        )
        assert read == [text(what, group) for group in GROUPS]


def text(what: str, who: str) -> str:
    """What is said, told apart by who it is said to or by."""
    return f"{what}, {who} – ✓"
