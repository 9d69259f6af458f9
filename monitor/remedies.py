"""The first step against each alert, for the status page and the messages. Pure text.

Commands stand between backquotes. `docs/alerts.md` has a section of the same name for each alert.
"""

from collections.abc import Mapping

REMEDIES: Mapping[str, str] = {
    "memory": "restart the service at a quiet moment, and give it a higher limit if the alert comes back",
    "bot-memory": "restart this bot before it is killed; its keys are safe in the database",
    "silent-bot": "look whether this bot runs, and at its log; if it was stopped for good, the row goes after a day",
    "database": "see whether the database runs and can be reached: `python run.py doctor`",
    "load": "see which part is slow: `python run.py perf`, then `python run.py types`",
    "backlog": "delete the expired keys now: `python run.py sweep`",
    "no-expiry": "give them an expiry: `python run.py backfill`, then `python run.py backfill --enforce`",
    "sweeper": "see why in the service's log, then try a sweep: `python run.py sweep`",
    "growth": "see which type grows: `python run.py growth`, then `python run.py types`",
    "pre-keys": "restart this bot, so that it uploads new pre-keys; if they still run out, look for a second process",
    "burst": "nothing: a bot has paired or reconnected",
    "disk": "make room on this disk; with none left no bot can write a key",
}
"""The first step against each alert, by its rule's id."""
