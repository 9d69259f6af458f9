"""The severity of each fact that the service reports, the same in the check, on the status page and in an alert.

`critical` means that somebody is needed now: bots can't work, or soon can't. `warning` can wait for the working day.
`information` needs nobody.
"""

from collections.abc import Mapping
from typing import Literal

Severity = Literal["information", "warning", "critical"]

SEVERITIES: Mapping[str, Severity] = {
    # A process that reaches its limit is killed: this service, or a bot in the middle of its writes.
    "memory": "critical",
    "bot-memory": "critical",
    # No bot can write a key, or soon none can.
    "database": "critical",
    "disk": "critical",
    # Old ratchets over new ones: messages can't be read, and keys are used a second time.
    "went-back": "critical",
    # A value was damaged or moved: a message can't be read, or somebody has changed the database.
    "unreadable": "critical",
    # Without sweeps the table grows until loads are slow and disks are full.
    "sweeper": "critical",
    # A slow load delays reconnects; nothing is lost.
    "load": "warning",
    "backlog": "warning",
    "growth": "warning",
    # Keys without expiry are never swept. Each costs some hundred bytes, so nobody is needed tonight.
    "no-expiry": "warning",
    "pre-keys": "warning",
    "pre-keys-rewritten": "warning",
    "sweep-failed": "warning",
    # Nothing is lost while a company is held back. Its bot may have ended, or the clock is wrong.
    "held-back": "warning",
    "no-sweep": "warning",
    # This program can't see whether values can be read; the service can.
    "no-secret-key": "warning",
    # No bot reads a key with a wrongly split type.
    "mis-split": "warning",
    # The bot has ended or hangs. The service can't tell that from a bot that its operator has stopped.
    "silent-bot": "warning",
    # Nobody is alerted while no service's watch looks.
    "no-watch": "warning",
    # A table that lost its keys, or never had any, is perhaps not the one that the bots use. A new one is just new.
    "no-keys": "warning",
    "new": "information",
    "burst": "information",
}
"""The severity of each fact: an alert by its rule's id, and the findings of the check and the page."""
