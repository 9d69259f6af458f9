"""The first step against each alert, for the status page and the messages. Pure text.

Commands stand between backquotes. `docs/alerts.md` has a section of the same name for each alert.
"""

from collections.abc import Mapping

REMEDIES: Mapping[str, str] = {
    "memory": "restart it at a quiet moment; give it more if this comes back: `systemctl restart signal-keystore`",
    "bot-memory": "restart this bot before it is killed; its keys are safe in the database: `python run.py check`",
    "silent-bot": "see whether this bot runs, and its log; then whether the service is well: `python run.py doctor`",
    "database": "see whether the database runs and can be reached: `python run.py doctor`",
    "went-back": "was a backup restored? stop this bot, then: `python run.py rolled-back`",
    "unreadable": "see which values, then whether somebody changed the database: `python run.py check`",
    "load": "see which part is slow: `python run.py perf`, then `python run.py types`",
    "backlog": "delete the expired keys now: `python run.py sweep`",
    "no-expiry": "give them an expiry: `python run.py backfill`, then `python run.py backfill --enforce`",
    "sweeper": "see why in the service's log, then try a sweep: `python run.py sweep`",
    "held-back": "see whether the clock is right and these bots run; if so, let it pass: `python run.py sweep`",
    "growth": "see which type grows: `python run.py growth`, then `python run.py types`",
    "pre-keys": "restart this bot, so that it uploads new pre-keys; then count them: `python run.py types`",
    "burst": "nothing: a bot has paired or reconnected",
    "disk": "make room on this disk; with none left no bot can write a key: `df -h`",
}
"""The first step against each alert, by its rule's id."""
