"""The bot: asks Telegram for updates in a thread of its own, and answers commands, one at a time, each at most once.

Before a command runs, it is made sure that it won't be sent again: the offset after it is saved in the database, or,
with that away, told to Telegram. So whatever ends the process, no command runs twice; and none that is older than five
minutes runs at all. Failures of Telegram are waited out; nothing but `stop` ends the thread.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

import structlog

from keystore.errors import KeystoreError
from monitor.running.backoff import Backoff
from monitor.telegram import texts
from monitor.telegram.answers import KEEP, SWEEP, Answers, Reply
from monitor.telegram.api import TelegramApi
from monitor.telegram.errors import BadToken, PollConflict, TelegramError, TelegramRefused, TelegramUnavailable
from monitor.telegram.replies import Replies
from monitor.telegram.service_queries import ServiceQueries
from monitor.telegram.update_cursor import Offsets, UpdateCursor
from monitor.telegram.updates import Command, Other, Press, read_update

POLL_S = 50
"""How long Telegram keeps a question for updates open; connections that idle longer are cut on many ways."""

COMMAND_MAX_AGE_S = 300.0

BAD_TOKEN_PAUSE_S = 600.0
CONFLICT_PAUSE_S = 30.0
AT_ONCE_S = 0.5
EMPTY_PAUSE_S = 1.0
"""After an answer without anything new that came at once: whatever is wrong there, it is not asked in a circle."""

MENU_RETRY = timedelta(minutes=10)
STRANGERS_KNOWN = 1_000

log = structlog.get_logger()


@dataclass(frozen=True)
class BotCounts:
    """What came since the process started, in all; of it: commands and presses that were run, what strangers sent, what
    was too old to run; and of those that ran, how many failed, and how many answers couldn't be sent."""

    updates: int = 0
    run: int = 0
    strangers: int = 0
    late: int = 0
    failed: int = 0
    unanswered: int = 0


class Bot:
    """Answers the chats it is told, and nobody else. May be stopped and started again.

    `wait(seconds)` passes time and returns whether to stop; by default that of an event that `stop` sets.
    """

    def __init__(
        self,
        api: TelegramApi,
        desk: ServiceQueries,
        chats: Collection[int],
        offsets: Offsets,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], bool] | None = None,
        poll_s: int = POLL_S,
    ) -> None:
        self._api = api
        self._answers = Answers(desk, clock)
        self._replies = Replies(api, self._wait)
        self._chats = frozenset(chats)
        self._offsets = offsets
        self._place = UpdateCursor(offsets, clock)
        self._clock = clock
        self._given_wait = wait
        self._poll_s = poll_s
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._counts = BotCounts()
        self._username: str | None = None
        self._menu_due_at: datetime | None = None
        self._trouble: str | None = None
        self._backoff = Backoff()
        self._strangers: set[int] = set()

    @property
    def counts(self) -> BotCounts:
        """What came so far."""
        return self._counts

    @property
    def running(self) -> bool:
        """Whether its thread is at work."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping.is_set()

    def start(self) -> bool:
        """Begins, and returns whether it runs: not yet while a stopped one still has a command in hand."""
        if self._thread is not None and self._thread.is_alive():
            return not self._stopping.is_set()
        self._stopping.clear()
        self._place.forget()
        self._thread = threading.Thread(target=self._run, name="telegram-bot", daemon=True)
        self._thread.start()
        return True

    def stop(self, within_s: float) -> bool:
        """Ends the poll at once, lets a command in hand finish, and returns whether the thread has ended by then."""
        self._stopping.set()
        self._api.cut_polls()
        if self._thread is None:
            return True
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause_s = self._turn()
            except TelegramError as error:
                pause_s = self._pause_after(error)
            except Exception as error:  # noqa: BLE001  the edge of the thread: nothing but stop ends it
                log.error("telegram_turn_failed", kind=type(error).__name__, error=str(error))
                pause_s = self._backoff.next_s()
            if pause_s and self._wait(pause_s):
                break

    def _turn(self) -> float:
        """Asks for updates once and handles them; returns how long to wait before the next time."""
        if self._username is None:
            self._username = self._api.get_me()
        self._register_menu()
        self._place.find()
        began = monotonic()
        raws = self._api.get_updates(self._place.to_ask(), timeout_s=self._poll_s, stopping=self._stopping)
        self._well_again()
        anything_new = False
        for raw in sorted(raws, key=_number_of):
            if self._stopping.is_set():
                return 0.0
            anything_new |= self._handle(raw)
        if not self._stopping.is_set():
            self._place.caught_up()
        return EMPTY_PAUSE_S if not anything_new and monotonic() - began < AT_ONCE_S else 0.0

    def _register_menu(self) -> None:
        now = self._clock()
        if self._menu_due_at is not None and now < self._menu_due_at:
            return
        try:
            self._api.set_my_commands(texts.COMMANDS)
            self._menu_due_at = datetime.max.replace(tzinfo=UTC)
        except (TelegramUnavailable, TelegramRefused) as error:
            # The bot works without a menu.
            self._menu_due_at = now + MENU_RETRY
            log.warning("telegram_menu_not_registered", error=str(error))

    def _handle(self, raw: Any) -> bool:
        """Runs an update if it is a command or a press for us; returns whether it was new.

        With the bot stopped before it could be made sure that it won't come again, it is left for the next start.
        """
        update = read_update(raw, self._username or "")
        if update is None or self._place.is_behind(update.update_id):
            return False
        self._count(updates=1)
        if not self._ours(update.chat) or isinstance(update, Other) or not self._timely(update):
            self._place.pass_on(update.update_id)
            return True
        if not self._secured(update.update_id + 1):
            return False
        self._place.pass_on(update.update_id)
        # Making sure may have taken a while.
        if self._timely(update):
            self._run_update(update)
        return True

    def _ours(self, chat: int | None) -> bool:
        if chat is None or chat in self._chats:
            return chat is not None
        self._count(strangers=1)
        if chat not in self._strangers and len(self._strangers) < STRANGERS_KNOWN:
            self._strangers.add(chat)
            log.warning("telegram_stranger_ignored", chat=chat, hint="TELEGRAM_CHAT_ID lists who is answered")
        return False

    def _timely(self, update: Command | Press) -> bool:
        """Whether it isn't too old to run. A press doesn't say when it was: answering it finds that out."""
        sent_at_s = update.sent_at_s if isinstance(update, Command) else None
        if self._place.may_have_run(sent_at_s):
            self._count(late=1)
            log.warning("telegram_update_skipped", reason="with the database away, it may have run already")
            return False
        age_s = 0.0 if sent_at_s is None else self._clock().timestamp() - sent_at_s
        if age_s > COMMAND_MAX_AGE_S:
            self._count(late=1)
            log.warning("telegram_command_too_old", age_s=round(age_s), hint="sent just now? Then a clock is wrong")
            return False
        return True

    def _secured(self, next_id: int) -> bool:
        """Makes sure that no process is sent the updates before `next_id` again. False: stopped before it was."""
        while not self._stopping.is_set():
            try:
                self._offsets.save(next_id)
                return True
            except KeystoreError as error:
                log.warning("telegram_offset_not_saved", error=str(error))
            try:
                # Its answer isn't taken: what is in it comes again with the next poll.
                self._api.get_updates(next_id, timeout_s=0, limit=1, stopping=self._stopping)
                return True
            except TelegramError as error:
                pause_s = self._pause_after(error)
            if self._wait(pause_s):
                break
        return False

    def _run_update(self, update: Command | Press) -> None:
        try:
            reply = self._reply_to(update)
        except Exception as error:  # noqa: BLE001  one update's failure is told, and ends nothing
            log.error("telegram_update_failed", kind=type(error).__name__, error=str(error))
            self._count(failed=1)
            reply = Reply(texts.broken())
        if reply is not None and not self._replies.send(update.chat, reply):
            self._count(unanswered=1)

    def _reply_to(self, update: Command | Press) -> Reply | None:
        if isinstance(update, Command):
            if not self._answers.knows(update.name) and not update.to_us:
                return None
            self._count(run=1)
            return self._answers.to_command(update.chat, update.name, update.argument)
        # Telegram refuses it for a press that is too old: then it doesn't run.
        if not self._replies.taken(partial(self._api.answer_callback, update.query_id), "telegram_press_too_old"):
            self._count(late=1)
            return None
        reply = self._answers.to_press(update.chat, update.data)
        self._count(run=reply is not None)
        if update.data.startswith((f"{SWEEP}:", f"{KEEP}:")) and update.message_id is not None:
            self._remove_keyboard(update.chat, update.message_id)
        return reply

    def _remove_keyboard(self, chat: int, message_id: int) -> None:
        try:
            self._api.remove_keyboard(chat, message_id)
        except TelegramError as error:
            # The buttons stay; what they ask is answered all the same.
            log.info("telegram_keyboard_stays", error=str(error))

    def _pause_after(self, error: TelegramError) -> float:
        """Says once what is wrong, and how long to leave Telegram alone."""
        if self._stopping.is_set():
            return 0.0
        kind = type(error).__name__
        if kind != self._trouble:
            say = log.error if isinstance(error, BadToken | PollConflict) else log.warning
            say(_EVENTS.get(type(error), "telegram_unavailable"), error=str(error))
            self._trouble = kind
        if isinstance(error, BadToken):
            return BAD_TOKEN_PAUSE_S
        if isinstance(error, PollConflict):
            return CONFLICT_PAUSE_S
        if isinstance(error, TelegramUnavailable) and error.retry_after_s is not None:
            return max(error.retry_after_s, EMPTY_PAUSE_S)
        return self._backoff.next_s()

    def _well_again(self) -> None:
        self._backoff.reset()
        if self._trouble is not None:
            log.info("telegram_back")
            self._trouble = None

    def _wait(self, seconds: float) -> bool:
        if self._given_wait is not None:
            return self._given_wait(seconds) or self._stopping.is_set()
        return self._stopping.wait(seconds)

    def _count(self, **more: int) -> None:
        self._counts = replace(
            self._counts, **{name: getattr(self._counts, name) + int(count) for name, count in more.items()}
        )


_EVENTS: dict[type[TelegramError], str] = {BadToken: "telegram_bad_token", PollConflict: "telegram_poll_conflict"}


def _number_of(raw: Any) -> int:
    """For sorting: the update's number, and those without one first."""
    update = read_update(raw, "")
    return -1 if update is None else update.update_id
