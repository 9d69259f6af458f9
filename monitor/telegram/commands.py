"""The bot's commands and buttons: each asks the service and turns its report into a reply.

A sweep is confirmed first. The buttons under that question carry a random token that is valid once, in its chat, for
five minutes. Nothing else starts a sweep.
"""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from keystore.errors import InvalidInput, KeystoreError
from keystore.ttl import parse_duration
from monitor.reports import charts
from monitor.running.bounded_calls import Busy, TimedOut
from monitor.telegram import texts
from monitor.telegram.messages import Button, Keyboard, Lines, Reply, plain
from monitor.telegram.service_queries import ServiceQueries

QUESTION_VALID_FOR = timedelta(minutes=5)
LONGEST_MUTE = timedelta(days=30)

RUN, SWEEP, KEEP = "run", "sweep", "keep"
"""The first part of a button's data, before a colon."""

BUTTON_ROWS = (("status", "db_health"), ("types", "growth"), ("perf", "sweep"), ("mute", "help"))
MENU: Keyboard = tuple(tuple(Button(f"/{name}", f"{RUN}:{name}") for name in row) for row in BUTTON_ROWS)


_CHANGING = {"sweep", "mute", "unmute", SWEEP, KEEP}


def changes_something(action: str) -> bool:
    """True if a command, or the data of a button, does more than report."""
    return action.removeprefix(f"{RUN}:").partition(":")[0] in _CHANGING


class Commands:
    """Executes commands, one at a time. `clock` returns the time in UTC."""

    def __init__(self, queries: ServiceQueries, clock: Callable[[], datetime]) -> None:
        self._queries = queries
        self._settings = queries.settings
        self._clock = clock
        self._questions: dict[int, tuple[str, datetime]] = {}
        """Each chat's open question: its token, and when it was asked. Only chats that the bot answers have one."""
        self._commands: dict[str, Callable[[int, str], Reply]] = {
            "start": lambda *_: Reply(texts.start(self._settings), MENU),
            "help": lambda *_: Reply(texts.HELP),
            "status": lambda *_: Reply(plain(queries.status())),
            "db_health": lambda *_: Reply(texts.db_health(queries.db_health(), self._settings)),
            "types": lambda *_: Reply(texts.types(queries.types(), self._settings)),
            "growth": lambda *_: self._growth(),
            "perf": lambda *_: self._run_long(lambda: texts.perf(queries.perf(), self._settings), texts.PERF_CONTINUES),
            "sweep": lambda chat, _: self._ask_about_sweep(chat),
            "mute": lambda _, argument: self._mute(argument),
            "unmute": lambda *_: self._unmute(),
        }
        """Each command, as a function of chat and argument."""

    def knows(self, name: str) -> bool:
        """Return whether there is a command of this name."""
        return name in self._commands

    def run(self, chat: int, name: str, argument: str = "") -> Reply:
        """Run a command. Any KeystoreError becomes the reply."""
        if name not in self._commands:
            return Reply(texts.unknown(name))
        try:
            return self._commands[name](chat, argument)
        except KeystoreError as error:
            return Reply(texts.unavailable(error))

    def press(self, chat: int, data: str) -> Reply | None:
        """Run the command of a button. None for data that no button of the bot carries."""
        kind, _, rest = data.partition(":")
        if kind == RUN and any(rest in row for row in BUTTON_ROWS):
            return self.run(chat, rest)
        if kind not in (SWEEP, KEEP):
            return None
        token, asked_at = self._questions.get(chat, ("", self._clock()))
        if not token or not secrets.compare_digest(token.encode(), rest.encode(errors="replace")):
            return Reply(texts.QUESTION_EXPIRED)
        del self._questions[chat]
        if self._clock() - asked_at > QUESTION_VALID_FOR:
            return Reply(texts.QUESTION_EXPIRED)
        if kind == KEEP:
            return Reply(texts.NOT_SWEPT)
        return self._run_long(lambda: texts.sweep(self._queries.sweep(), self._settings), texts.SWEEP_CONTINUES)

    def _ask_about_sweep(self, chat: int) -> Reply:
        check = self._queries.check()
        if not check.expired:
            return Reply(texts.nothing_to_sweep(check.guarded))
        token = secrets.token_hex(8)
        self._questions[chat] = token, self._clock()
        row = (Button("Delete them", f"{SWEEP}:{token}"), Button("Leave them", f"{KEEP}:{token}"))
        return Reply(texts.sweep_question(check.expired, self._settings), (row,))

    def _run_long(self, work: Callable[[], Lines], continues: Lines) -> Reply:
        """Run work that may outlast the time limit, or find another such work running. Neither means an outage."""
        try:
            return Reply(work())
        except TimedOut:
            return Reply(continues)
        except Busy:
            return Reply(texts.BUSY)
        except KeystoreError as error:
            return Reply(texts.failed(error))

    def _growth(self) -> Reply:
        report = self._queries.growth()
        photo = charts.growth_chart(report) if charts.available() else None
        return Reply(texts.growth(report, self._settings), photo=photo)

    def _mute(self, argument: str) -> Reply:
        zone = self._settings.zone
        if not argument:
            return Reply(texts.how_to_mute(self._queries.muted_until(), zone))
        try:
            length = timedelta(seconds=parse_duration(argument))
        except InvalidInput:
            return Reply(texts.not_a_time(argument))
        if length > LONGEST_MUTE:
            return Reply(texts.mute_too_long(argument))
        until = self._clock() + length
        self._queries.mute(until)
        return Reply(texts.muted(until, zone))

    def _unmute(self) -> Reply:
        return Reply(texts.unmuted(self._queries.unmute()))
