"""What the bot says to a command or a press: it asks the desk, and makes lines of the report.

A sweep is asked about first. The buttons under that question carry a word that is good once, in its chat, for five
minutes; nothing else starts a sweep.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keystore.errors import InvalidInput, KeystoreError
from keystore.ttl import parse_duration
from monitor.forecast import charts
from monitor.running.bounded_calls import Busy, TimedOut
from monitor.telegram import texts
from monitor.telegram.api import Button, Keyboard
from monitor.telegram.message import Line, plain
from monitor.telegram.service_queries import ServiceQueries

QUESTION_OPEN_FOR = timedelta(minutes=5)
LONGEST_MUTE = timedelta(days=30)

RUN, SWEEP, KEEP = "run", "sweep", "keep"
"""What a button's data begins with, before a colon."""

ON_BUTTONS = ("status", "db_health", "types", "growth", "perf", "sweep")
BUTTONS_A_ROW = 2


@dataclass(frozen=True)
class Reply:
    """What goes back into the chat: lines, buttons under the last of them, and a picture after them."""

    lines: tuple[Line, ...]
    keyboard: Keyboard = ()
    photo: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Question:
    word: str
    asked_at: datetime


class Answers:
    """The bot's answers, one at a time. `clock` says when it is, aware and in UTC."""

    def __init__(self, desk: ServiceQueries, clock: Callable[[], datetime]) -> None:
        self._desk = desk
        self._clock = clock
        self._questions: dict[int, _Question] = {}
        """By chat, and only of chats that are answered: never more than those."""
        self._commands: dict[str, Callable[[], Reply]] = {
            "start": lambda: Reply(texts.start(), _menu()),
            "help": lambda: Reply(texts.help_text()),
            "status": lambda: Reply(plain(desk.status())),
            "db_health": lambda: Reply(texts.db_health(desk.db_health())),
            "types": lambda: Reply(texts.types(desk.types())),
            "growth": self._growth,
            "perf": lambda: self._at_work(lambda: texts.perf(desk.perf()), texts.perf_goes_on()),
            "unmute": self._unmute,
        }

    def knows(self, name: str) -> bool:
        """Whether there is such a command."""
        return name in self._commands or name in ("sweep", "mute")

    def to_command(self, chat: int, name: str, argument: str = "") -> Reply:
        """Does what the command says. What the store raises becomes the answer."""
        try:
            if name == "sweep":
                return self._ask_about_sweep(chat)
            if name == "mute":
                return self._mute(argument)
            command = self._commands.get(name)
            return Reply(texts.unknown(name)) if command is None else command()
        except KeystoreError as error:
            return Reply(texts.failed(error))

    def to_press(self, chat: int, data: str) -> Reply | None:
        """Does what the button says; None for a button that isn't one of ours, or no longer."""
        kind, _, rest = data.partition(":")
        if kind == RUN and rest in ON_BUTTONS:
            return self.to_command(chat, rest)
        if kind not in (SWEEP, KEEP):
            return None
        question = self._questions.get(chat)
        if question is None or not secrets.compare_digest(question.word.encode(), rest.encode(errors="replace")):
            return Reply(texts.stale_question())
        del self._questions[chat]
        if self._clock() - question.asked_at > QUESTION_OPEN_FOR:
            return Reply(texts.stale_question())
        if kind == KEEP:
            return Reply(texts.no_sweep())
        return self._at_work(lambda: texts.sweep(self._desk.sweep()), texts.sweep_goes_on())

    def _ask_about_sweep(self, chat: int) -> Reply:
        check = self._desk.check()
        question = _Question(secrets.token_hex(8), self._clock())
        self._questions[chat] = question
        row = (Button("Delete them", f"{SWEEP}:{question.word}"), Button("Leave them", f"{KEEP}:{question.word}"))
        return Reply(texts.sweep_question(check.expired, check.database), (row,))

    def _at_work(self, work: Callable[[], texts.Lines], goes_on: texts.Lines) -> Reply:
        """For what may take longer than a chat waits, or find another one at it: neither means an outage."""
        try:
            return Reply(work())
        except TimedOut:
            return Reply(goes_on)
        except Busy:
            return Reply(texts.busy())
        except KeystoreError as error:
            return Reply(texts.did_not_work(error))

    def _growth(self) -> Reply:
        report = self._desk.growth()
        return Reply(texts.growth(report), photo=charts.growth_chart(report) if charts.available() else None)

    def _mute(self, argument: str) -> Reply:
        try:
            length = timedelta(seconds=parse_duration(argument))
        except InvalidInput:
            return Reply(texts.how_to_mute(self._desk.muted_until()))
        if length > LONGEST_MUTE:
            return Reply(texts.how_to_mute(self._desk.muted_until()))
        until = self._clock() + length
        self._desk.mute(until)
        return Reply(texts.muted(until))

    def _unmute(self) -> Reply:
        self._desk.unmute()
        return Reply(texts.unmuted())


def _menu() -> Keyboard:
    buttons = [Button(f"/{name}", f"{RUN}:{name}") for name in ON_BUTTONS]
    return tuple(tuple(buttons[n : n + BUTTONS_A_ROW]) for n in range(0, len(buttons), BUTTONS_A_ROW))
