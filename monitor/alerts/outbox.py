"""Notices on their way out: stored, grouped, and delivered in order, through failures and restarts.

Posting a notice never waits: the outbox has a thread that delivers. Each chat has its own queue, so a chat that refuses
or asks for a pause holds up no other. The queues are bounded, and stored in a note as well, so they survive a restart
and pass to the process that takes over. A notice is delivered at least once: after a kill between delivering it and
storing that, it is delivered again.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from time import monotonic
from typing import Generic, TypeVar

import structlog

from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.note_names import OUTBOX
from monitor.reports.formatting import counted
from monitor.running.backoff import Backoff
from monitor.running.bounded_calls import BoundedCalls

MOST_PENDING = 200
"""Notices that wait for one chat at most; a day without Telegram under a bad day's alerts stays below it."""

MOST_CHARS = 3_000
"""Length of a message: fits Telegram's 4,096 with its escapes. A longer notice is cut."""

LATE = timedelta(minutes=2)
"""Delay from which on a delivered notice states its own time."""

TRIES_OF_UNKNOWN = 5
"""Tries of a notice whose delivery fails for an unknown reason, before it stops holding up the next."""

SAVE_WITHIN_S = 1.0
SAVE_AGAIN_S = 60.0
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0

Chat = TypeVar("Chat")

log = structlog.get_logger()


class NotDelivered(Exception):  # noqa: N818  named for the outcome, as in keystore.errors
    """It can't be delivered now; try again, after `retry_after_s` seconds where that is known."""

    def __init__(self, retry_after_s: float | None = None) -> None:
        super().__init__("can't be delivered now" + ("" if retry_after_s is None else f"; again in {retry_after_s} s"))
        self.retry_after_s = retry_after_s


class Undeliverable(Exception):  # noqa: N818
    """It will never be delivered to this chat."""


@dataclass(frozen=True)
class _Entry:
    """One notice for one chat, and the time when it was posted."""

    at: datetime
    text: str


@dataclass
class _Queue(Generic[Chat]):
    """The notices that wait for one chat, oldest first. `dropped` ones are lost: too many waited, or the chat refused
    them, for the reason `refusal`. The next message that arrives there says so."""

    chat: Chat
    backoff: Backoff
    entries: deque[_Entry] = field(default_factory=deque)
    dropped: int = 0
    due_at: float = 0.0
    failed: int = 0
    refusal: str = ""

    def drop_oldest(self) -> None:
        """Drop the oldest notices while too many wait."""
        while len(self.entries) > MOST_PENDING:
            self.entries.popleft()
            self.dropped += 1

    def next_message(self, now: datetime, zone: tzinfo) -> tuple[str, list[_Entry], int]:
        """The text of the next message, its entries, and the number of dropped notices that it mentions."""
        reason = self.refusal or "too many waited to be delivered"
        dropped = f"({counted(self.dropped, 'older notice was', 'older notices were')} dropped: {reason}.)"
        parts = [dropped] if self.dropped else []
        entries: list[_Entry] = []
        chars = 0
        for entry in self.entries:
            late = now - entry.at >= LATE
            text = f"[{entry.at.astimezone(zone):%Y-%m-%d %H:%M %Z}] {entry.text}" if late else entry.text
            if len(text) > MOST_CHARS:
                text = f"{text[: MOST_CHARS - 2]} …"
            if entries and chars + len(text) > MOST_CHARS:
                break
            parts.append(text)
            entries.append(entry)
            chars += len(text) + 2
        return "\n\n".join(parts), entries, self.dropped

    def remove(self, delivered: list[_Entry], dropped: int) -> None:
        """Remove the entries of a delivered message, which mentioned `dropped` dropped notices."""
        self.dropped -= dropped
        self.refusal = self.refusal if self.dropped else ""
        for entry in delivered:
            # More may have been posted meanwhile, and the oldest dropped for it.
            if self.entries and self.entries[0] is entry:
                self.entries.popleft()
            elif self.dropped:
                self.dropped -= 1


def discard(chat: object, text: str) -> None:
    """Deliver nothing: for an outbox without chats."""


class Outbox(Generic[Chat]):
    """Delivers texts to every chat, in a thread of its own. A chat's `str` is its name in the note and in the log."""

    def __init__(
        self,
        deliver: Callable[[Chat, str], None],
        chats: Iterable[Chat],
        *,
        zone: tzinfo = UTC,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = monotonic,
        backoff: Callable[[], Backoff] = lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S),
    ) -> None:
        """`deliver(chat, text)` raises NotDelivered or Undeliverable; late notices state their time in `zone`."""
        self._deliver = deliver
        self._queues = {str(chat): _Queue(chat, backoff()) for chat in chats}
        self._zone = zone
        self._clock = clock
        self._ticks = ticks
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._give_up_at = 0.0
        self._store: Store | None = None
        self._loading = False
        self._saved: str | None = None
        self._saving_failed = False
        self._questions = BoundedCalls(1, "outbox-save")
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    @property
    def pending(self) -> int:
        """The number of notices that wait, summed over the chats."""
        with self._lock:
            return sum(len(queue.entries) for queue in self._queues.values())

    def refusals(self) -> list[str]:
        """A line for each chat that refused its last notice."""
        with self._lock:
            return [
                f"chat {queue.chat} refuses notices ({queue.dropped:,} lost): {queue.refusal}"
                for queue in self._queues.values()
                if queue.refusal
            ]

    def post(self, *texts: str) -> None:
        """Accept notices for every chat; notices of one call go out together. Never blocks, never fails."""
        now = self._clock()
        with self._lock:
            for queue in self._queues.values():
                queue.entries.extend(_Entry(now, text) for text in texts)
                queue.drop_oldest()
        self._woken.set()

    def keep_in(self, store: Store | None) -> None:
        """From now on store the queues in this store's note, and deliver the notices in it; None ends that.

        Only one process may use a database's note: the one that alerts. An outbox that stops using it leaves the
        notices stored there to the next, and still delivers the others.
        """
        with self._lock:
            if store is None and self._saved is not None:
                for queue, stored, _, _ in self._parsed(self._saved):
                    queue.entries = deque(entry for entry in queue.entries if entry not in stored)
            self._store, self._loading, self._saved = store, store is not None, None
        self._woken.set()

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Try once more to deliver what waits, and end; True when that was done in time."""
        self._give_up_at = self._ticks() + within_s
        self._stopping.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)
        return not self._thread.is_alive()

    def deliver_due(self, *, last_try: bool = False) -> float | None:
        """Deliver the notices that are due, or all of them; the seconds until more is due, None when nothing waits."""
        self._load()
        self._save()
        for queue in self._queues.values():
            while queue.entries and (last_try or queue.due_at <= self._ticks()):
                if (last_try and self._ticks() >= self._give_up_at) or not self._deliver_next(queue):
                    break
        unsaved = self._save()
        pauses = [max(0.0, queue.due_at - self._ticks()) for queue in self._queues.values() if queue.entries]
        return min([*pauses, SAVE_AGAIN_S] if unsaved else pauses, default=None)

    def _run(self) -> None:
        pause_s: float | None = 0.0
        last_try = False
        while not last_try:
            self._woken.wait(pause_s)
            self._woken.clear()
            last_try = self._stopping.is_set()
            try:
                pause_s = self.deliver_due(last_try=last_try)
            except Exception as error:  # noqa: BLE001  the edge of the thread: nothing may end it
                log.error("outbox_failed", error=str(error), kind=type(error).__name__)
                pause_s = FIRST_RETRY_S

    def _deliver_next(self, queue: _Queue[Chat]) -> bool:
        """Deliver one message with as many notices as it holds; True when the chat may be sent another."""
        with self._lock:
            text, entries, dropped = queue.next_message(self._clock(), self._zone)
        if not entries:  # Left to another process just now.
            return False
        lost = ""
        try:
            self._deliver(queue.chat, text)
        except NotDelivered as error:
            pause_s = queue.backoff.next_s() if error.retry_after_s is None else max(0.0, error.retry_after_s)
            self._put_off(queue, pause_s, str(error.__cause__ or error))
            return False
        except Undeliverable as error:
            log.error("notice_refused", chat=str(queue.chat), notices=len(entries), error=str(error), text=text)
            lost = str(error)
        except Exception as error:  # noqa: BLE001  an unexpected failure must not hold up the next notices
            queue.failed += 1
            if queue.failed < TRIES_OF_UNKNOWN:
                self._put_off(queue, queue.backoff.next_s(), f"{type(error).__name__}: {error}")
                return False
            log.error("notice_given_up", chat=str(queue.chat), notices=len(entries), kind=type(error).__name__)
            lost = f"sending failed ({type(error).__name__})"
        queue.backoff.reset()
        queue.due_at, queue.failed = 0.0, 0
        with self._lock:
            queue.remove(entries, 0 if lost else dropped)
            if lost:
                queue.dropped, queue.refusal = queue.dropped + len(entries), lost
        return True

    def _put_off(self, queue: _Queue[Chat], pause_s: float, reason: str) -> None:
        queue.due_at = self._ticks() + pause_s
        chat, pending = str(queue.chat), len(queue.entries)
        log.warning("notice_not_delivered", chat=chat, pending=pending, retry_s=pause_s, error=reason)

    def _load(self) -> None:
        """Put the notices of the note before those that were posted since."""
        with self._lock:
            store = self._store if self._loading else None
        if store is None:
            return
        try:
            note = self._questions.call(lambda: store.recall(OUTBOX), SAVE_WITHIN_S)
        except KeystoreError as error:
            log.warning("outbox_not_read", error=str(error))
            return
        stored = [] if note is None else self._parsed(note.document)
        with self._lock:
            if self._store is not store:
                return
            self._loading = False
            self._saved = None if note is None else note.document
            for queue, entries, dropped, refusal in stored:
                queue.refusal = queue.refusal or refusal
                queue.entries.extendleft(reversed(entries))
                queue.dropped += dropped
                queue.drop_oldest()

    def _save(self) -> bool:
        """Store the queues where they have changed; True when something is left to store."""
        with self._lock:
            store = self._store
            if store is None:
                return False
            if self._loading:
                return True
            document = _to_json(self._queues.values())
        if document == self._saved:
            return False
        try:
            self._questions.call(lambda: store.remember(OUTBOX, document), SAVE_WITHIN_S)
        except KeystoreError as error:
            if not self._saving_failed:
                log.warning("outbox_not_saved", error=str(error))
            self._saving_failed = True
            return True
        self._saving_failed = False
        with self._lock:
            if self._store is store:
                self._saved = document
        return False

    def _parsed(self, document: str) -> list[tuple[_Queue[Chat], list[_Entry], int, str]]:
        """The notices in a document, the number dropped and why, by queue; empty when the document can't be read."""
        try:
            parsed = {
                str(chat): (
                    [_Entry(datetime.fromisoformat(at), str(text)) for at, text in waiting["entries"]],
                    int(waiting["dropped"]),
                    str(waiting.get("refusal", "")),
                )
                for chat, waiting in json.loads(document).items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("outbox_not_readable", error=str(error))
            return []
        return [(self._queues[chat], *waiting) for chat, waiting in parsed.items() if chat in self._queues]


def _to_json(queues: Iterable[_Queue[Chat]]) -> str | None:
    """The queues as a document; None when they are empty."""
    waiting = {
        str(queue.chat): {
            "dropped": queue.dropped,
            "refusal": queue.refusal,
            "entries": [(entry.at, entry.text) for entry in queue.entries],
        }
        for queue in queues
        if queue.entries or queue.dropped
    }
    return json.dumps(waiting, ensure_ascii=False, default=datetime.isoformat) if waiting else None
