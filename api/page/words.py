"""The words of the status page, explained. `docs/page.md` has the same list."""

from collections.abc import Mapping

WORDS: Mapping[str, str] = {
    "active": "A key that isn't past its expiry, or has none.",
    "alert": "A state that lasted longer than it should. It has a severity, and the guide says what to do.",
    "company": "One WhatsApp account, and the bot that runs it.",
    "created": "A key that was written for the first time.",
    "enforced": "The database refuses keys without an expiry.",
    "epoch": "A number that rises each time a lease is taken. A write with an older number is refused.",
    "expired": "A key past its expiry. The next sweep deletes it.",
    "expiry": "The time at which a key may be deleted. Each use of the key moves it into the future.",
    "guarded": "A key past its expiry that no sweep deletes, because a bot can't replace it.",
    "heartbeat": "A bot's report on itself, every minute: it lives, and uses this much memory.",
    "key": "One entry of a bot's Signal state, such as a session with a contact.",
    "lease": "The right to write for a company. One process at a time holds it, so that two can't spoil the keys.",
    "lid": "A contact's hidden id. Keys of the type lid were filed wrongly: run `python run.py repair`.",
    "lid-mapping": "The pair of a contact's phone number and hidden id.",
    "load": "The read of all keys of one company. A bot waits for it when it reconnects.",
    "pre-key": "A key that lets a new contact begin a conversation. WhatsApp hands each out once.",
    "sender-key": "A key for the messages of one group.",
    "session": "The encryption state with one device of a contact.",
    "silent": "A bot that sent heartbeats, and has sent none for ten minutes.",
    "stands by": "This service serves bots, and another one sends the alerts.",
    "sweep": "The deletion of expired keys, every few hours.",
    "watch": "The part of the service that looks at everything each minute, and alerts.",
    "without expiry": "A key that no sweep ever deletes. The backfill command gives it an expiry.",
}
"""Each word with one or two sentences. Commands stand between backquotes."""
