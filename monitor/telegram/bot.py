"""The bot: polls Telegram in a thread of its own and answers commands, one at a time, each at most once.

Before a command runs, the bot makes sure that it is not sent again. It saves the next offset in the database or, while
that is down, confirms the update to Telegram. So no command runs twice, even after a crash, and none that is older than
five minutes runs at all. The bot waits until failures of Telegram are over; only `stop` ends its thread.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from monitor.running.backoff import Backoff
from monitor.telegram import texts
from monitor.telegram.chats import Chat, ServedChats
from monitor.telegram.commands import KEEP, SWEEP, Commands, changes_something
from monitor.telegram.errors import BadToken, PollConflict, TelegramError, TelegramRefused, TelegramUnavailable
from monitor.telegram.messages import Reply
from monitor.telegram.sending import BAD_TOKEN_RETRY_S, ReplySender
from monitor.telegram.service_queries import ServiceQueries
from monitor.telegram.update_cursor import OffsetNote, UpdateCursor
from monitor.telegram.updates import Command, Moved, Other, Press, Update, read_update

if TYPE_CHECKING:
    from monitor.telegram.client import TelegramClient

POLL_S = 50
"""Seconds for which Telegram holds a poll open. Many networks cut connections that are idle for longer."""

COMMAND_MAX_AGE_S = 300.0

CONFLICT_PAUSE_S = 30.0
AT_ONCE_S = 0.5
EMPTY_PAUSE_S = 1.0
"""Pause after an answer that came within AT_ONCE_S and brought nothing new, so that a fault causes no busy loop."""

MENU_RETRY = timedelta(minutes=10)
MOST_STRANGERS_LOGGED = 1_000

log = structlog.get_logger()


@dataclass
class BotCounts:
    """Numbers since the process started: new updates; commands and presses that ran; updates from chats that aren't
    answered; commands and presses too old to run; runs with an unexpected error; replies that could not be sent."""

    updates: int = 0
    run: int = 0
    from_strangers: int = 0
    expired: int = 0
    failed: int = 0
    unanswered: int = 0


class Bot:
    """Answers these chats and nobody else. It can be stopped and started again.
    `wait(seconds)` lets time pass and returns True when the bot should stop. By default it waits for `stop`."""

    def __init__(
        self,
        client: "TelegramClient",
        queries: ServiceQueries,
        chats: ServedChats,
        offset: OffsetNote,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], bool] | None = None,
        poll_s: int = POLL_S,
    ) -> None:
        self.counts = BotCounts()
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._client = client
        self._commands = Commands(queries, clock)
        self._sender = ReplySender(client, self._wait)
        self._chats = chats
        self._cursor = UpdateCursor(offset, clock)
        self._clock = clock
        self._poll_s = poll_s
        self._thread: threading.Thread | None = None
        self._username: str | None = None
        self._menu_due_at: datetime | None = datetime.min.replace(tzinfo=UTC)
        self._logged_error: type[TelegramError] | None = None
        self._backoff = Backoff()
        self._strangers: set[int] = set()

    def start(self) -> bool:
        """Start the bot and return whether it runs. It doesn't while a stopped bot still finishes a command."""
        if self._thread is not None and self._thread.is_alive():
            return not self._stopping.is_set()
        self._stopping.clear()
        self._cursor.reset()
        thread = threading.Thread(target=self._run, name="telegram-bot", daemon=True)
        thread.start()
        self._thread = thread  # Once it runs: `stop` may be called meanwhile, and joins it.
        return True

    def stop(self, within_s: float) -> bool:
        """End the poll at once, let a running command finish, and return whether the thread has ended in time."""
        self._stopping.set()
        self._client.cut_polls()
        thread = self._thread
        if thread is not None:
            thread.join(within_s)
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause_s = self._poll()
            except TelegramError as error:
                pause_s = self._pause_after(error)
            except Exception as error:  # noqa: BLE001  the edge of the thread: only stop ends it
                log.error("telegram_poll_failed", kind=type(error).__name__, error=str(error))
                pause_s = self._backoff.next_s()
            if pause_s and self._wait(pause_s):
                break

    def _poll(self) -> float:
        """Ask for updates once and handle them. Returns the pause in seconds before the next poll."""
        if self._username is None:
            self._username = self._client.get_me()
        self._register_menu()
        self._cursor.load()
        began = monotonic()
        raws = self._client.get_updates(self._cursor.next_offset(), timeout_s=self._poll_s, stopping=self._stopping)
        self._backoff.reset()
        if self._logged_error is not None:
            log.info("telegram_recovered")
            self._logged_error = None
        anything_new = False
        updates = [update for raw in raws if (update := read_update(raw, self._username)) is not None]
        for update in sorted(updates, key=lambda update: update.update_id):
            if self._stopping.is_set():
                return 0.0
            anything_new |= self._handle(update)
        if not self._stopping.is_set():
            self._cursor.finish_batch()
        return EMPTY_PAUSE_S if not anything_new and monotonic() - began < AT_ONCE_S else 0.0

    def _register_menu(self) -> None:
        now = self._clock()
        if self._menu_due_at is None or now < self._menu_due_at:
            return
        try:
            self._client.set_my_commands(texts.COMMANDS)
            self._menu_due_at = None
        except (TelegramUnavailable, TelegramRefused) as error:
            # The bot works without a menu.
            self._menu_due_at = now + MENU_RETRY
            log.warning("telegram_menu_not_registered", error=str(error))

    def _handle(self, update: Update) -> bool:
        """Run an update if it is a command or press from an answered chat. Returns whether it was new.
        If the bot is stopped before the update is confirmed, the update is left for the next start."""
        if self._cursor.has_passed(update.update_id):
            return False
        self.counts.updates += 1
        if isinstance(update, Moved):
            self._follow(update)
        if (
            not self._is_answered(update.chat)
            or isinstance(update, Other | Moved)  # To follow a chat twice does no harm.
            or not self._may_run(update)
        ):
            self._cursor.move_past(update.update_id)
            return True
        if not self._confirm(update.update_id):
            return False
        self._cursor.move_past(update.update_id)
        # Checked again, because confirming may have taken a while.
        if self._may_run(update):
            self._answer(update)
        return True

    def _is_answered(self, chat: int | None) -> bool:
        if chat is None or self._chats.serves(chat):
            return chat is not None
        self.counts.from_strangers += 1
        if chat not in self._strangers and len(self._strangers) < MOST_STRANGERS_LOGGED:
            self._strangers.add(chat)
            log.warning("telegram_stranger_ignored", chat=chat, hint="TELEGRAM_CHAT_ID lists who is answered")
        return False

    def _follow(self, move: Moved) -> None:
        if self._chats.follow(move.chat, move.new):
            self._sender.send(Chat(move.new), Reply(texts.moved(move.chat, move.new)))

    def _may_run(self, update: Command | Press) -> bool:
        """Return whether it is recent and surely hasn't run yet. The age of a press shows only when it is confirmed."""
        sent_at_s = update.sent_at_s if isinstance(update, Command) else None
        if self._cursor.may_have_run(sent_at_s):
            self.counts.expired += 1
            log.warning("telegram_update_skipped", reason="the database was down, so it may have run already")
            return False
        age_s = 0.0 if sent_at_s is None else self._clock().timestamp() - sent_at_s
        if age_s > COMMAND_MAX_AGE_S:
            self.counts.expired += 1
            log.warning("telegram_command_expired", age_s=round(age_s), hint="sent just now? Then a clock is wrong")
            return False
        return True

    def _confirm(self, update_id: int) -> bool:
        """Make sure that no process receives this update again. Returns False if the bot was stopped before that."""
        while not self._stopping.is_set():
            if self._cursor.save_past(update_id):
                return True
            try:
                # The answer is ignored: its updates come again with the next poll.
                self._client.get_updates(update_id + 1, timeout_s=0, limit=1, stopping=self._stopping)
                return True
            except TelegramError as error:
                pause_s = self._pause_after(error)
            if self._wait(pause_s):
                break
        return False

    def _answer(self, update: Command | Press) -> None:
        try:
            reply = self._reply_to(update)
        except Exception as error:  # noqa: BLE001  the edge of one command: the chat gets an answer, the bot goes on
            log.error("telegram_update_failed", kind=type(error).__name__, error=str(error))
            self.counts.failed += 1
            reply = Reply(texts.BROKEN)
        if reply is not None and not self._sender.send(Chat(update.chat, update.topic), reply):
            self.counts.unanswered += 1

    def _reply_to(self, update: Command | Press) -> Reply | None:
        if isinstance(update, Command):
            if not self._commands.knows(update.name) and not update.to_us:
                return None
            refusal = self._refusal(update, update.name)
            self.counts.run += refusal is None
            return refusal or self._commands.run(update.chat, update.name, update.argument)
        # Telegram refuses to confirm a press that is too old. Such a press isn't run.
        if not self._sender.attempt(partial(self._client.answer_callback, update.query_id), "telegram_press_expired"):
            self.counts.expired += 1
            return None
        if (refusal := self._refusal(update, update.data)) is not None:
            return refusal
        reply = self._commands.press(update.chat, update.data)
        self.counts.run += reply is not None
        if update.data.startswith((f"{SWEEP}:", f"{KEEP}:")) and update.message_id is not None:
            try:
                self._client.remove_keyboard(update.chat, update.message_id)
            except TelegramError as error:
                # The buttons stay; a press of them is still answered.
                log.info("telegram_keyboard_not_removed", error=str(error))
        return reply

    def _refusal(self, update: Command | Press, action: str) -> Reply | None:
        """The answer to somebody who may not do this; None if they may. In a group everybody may ask for reports, and
        its administrators may change something."""
        if not changes_something(action) or update.sender.trusted:
            return None
        user = update.sender.user
        try:
            allowed = user is not None and self._client.is_administrator(update.chat, user)
        except TelegramError as error:
            log.warning("telegram_rights_unknown", chat=update.chat, user=user, error=str(error))
            return Reply(texts.RIGHTS_UNKNOWN)
        if allowed:
            return None
        log.warning("telegram_action_refused", chat=update.chat, user=user, action=action.partition(":")[0])
        return Reply(texts.NOT_ALLOWED)

    def _pause_after(self, error: TelegramError) -> float:
        """Log the error, once for each kind, and return the pause in seconds before the next call."""
        if self._stopping.is_set():
            return 0.0
        write, event = log.error, "telegram_unavailable"
        if isinstance(error, BadToken):
            event, pause_s = "telegram_token_rejected", BAD_TOKEN_RETRY_S
        elif isinstance(error, PollConflict):
            event, pause_s = "telegram_poll_conflict", CONFLICT_PAUSE_S
        else:
            write = log.warning
            wanted_s = error.retry_after_s if isinstance(error, TelegramUnavailable) else None
            pause_s = self._backoff.next_s() if wanted_s is None else max(wanted_s, EMPTY_PAUSE_S)
        if type(error) is not self._logged_error:
            write(event, error=str(error))
            self._logged_error = type(error)
        return pause_s
