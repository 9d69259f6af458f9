"""Notices on their way out: kept, grouped and delivered in order, whatever becomes of whoever delivers them.

Whoever posts a notice never waits: a thread of the outbox's own delivers. Each chat has its own queue, so that one
that refuses or is to be left alone holds up no other. What waits is bounded, and kept in the store's notes as well, so
that it survives a restart; the outbox of the process that takes over delivers it. A notice is delivered at least once:
a process that is killed between delivering and noting it down has it delivered again.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from time import monotonic

import structlog

from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.running.backoff import Backoff
from monitor.running.bounded_calls import BoundedCalls

NOTE = "outbox"
MOST_PENDING = 200
"""Notices kept for a chat; a day's outage of Telegram under a bad day's alerts stays below it."""

MOST_CHARS = 3_000
"""In one message: fits Telegram's 4,096 with its escapes. A longer notice is cut."""

LATE = timedelta(minutes=2)
"""A notice delivered so much later than it was posted says from when it is."""

TRIES_OF_UNKNOWN = 5
"""How often a notice is tried whose delivery fails as nobody foresaw, before it stops holding up the next."""

SAVE_WITHIN_S = 1.0
SAVE_AGAIN_S = 60.0
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0

log = structlog.get_logger()


class NotDelivered(Exception):  # noqa: N818  named for what the outbox learns, as in keystore.errors
    """It can't be delivered now; try again, after `retry_after_s` seconds where that is known."""

    def __init__(self, retry_after_s: float | None = None) -> None:
        super().__init__("can't be delivered now" + ("" if retry_after_s is None else f"; again in {retry_after_s} s"))
        self.retry_after_s = retry_after_s


class Undeliverable(Exception):  # noqa: N818
    """It will never be delivered to this chat."""


@dataclass(frozen=True)
class _Entry:
    """One notice for one chat, and when it was posted."""

    at: datetime
    text: str


@dataclass
class _Queue:
    """What waits for one chat, oldest first."""

    chat: int
    backoff: Backoff
    entries: deque[_Entry] = field(default_factory=deque)
    dropped: int = 0
    due_at: float = 0.0
    failed: int = 0


def discard(chat: int, text: str) -> None:
    """Deliver nothing: for an outbox without chats."""


class Outbox:
    """Delivers texts to every chat; `post` them and forget about them."""

    def __init__(
        self,
        deliver: Callable[[int, str], None],
        chats: Iterable[int],
        *,
        zone: tzinfo = UTC,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = monotonic,
        backoff: Callable[[], Backoff] = lambda: Backoff(FIRST_RETRY_S, LONGEST_RETRY_S),
    ) -> None:
        """`deliver(chat, text)` raises NotDelivered or Undeliverable; late notices tell their time in `zone`."""
        self._deliver = deliver
        self._queues = {chat: _Queue(chat, backoff()) for chat in chats}
        self._zone = zone
        self._clock = clock
        self._ticks = ticks
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._give_up_at = 0.0
        self._store: Store | None = None
        self._adopting = False
        self._saved: str | None = None
        self._saving_failed = False
        self._slot = BoundedCalls(1, "outbox-save")
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    @property
    def pending(self) -> int:
        """How many notices wait, those of each chat counted."""
        with self._lock:
            return sum(len(queue.entries) for queue in self._queues.values())

    def post(self, *texts: str) -> None:
        """Takes notices for every chat; those taken together go out together. Never blocks, never fails."""
        now = self._clock()
        with self._lock:
            for queue in self._queues.values():
                queue.entries.extend(_Entry(now, text) for text in texts)
                _bound(queue)
        self._woken.set()

    def keep_in(self, store: Store | None) -> None:
        """From now on keeps what waits in the store's notes, and delivers what is kept there; None: no longer.

        Only one process may keep its notices in a database: the one that alerts. One that no longer does leaves what
        it has kept there to the next, and still delivers the rest.
        """
        with self._lock:
            if store is None and self._saved is not None:
                self._forget_kept(self._saved)
            self._store, self._adopting, self._saved = store, store is not None, None
        self._woken.set()

    def start(self) -> None:
        """Begins to deliver."""
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Tries once more to deliver what is there, and ends; returns whether it did in time."""
        self._give_up_at = self._ticks() + within_s
        self._stopping.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)
        return not self._thread.is_alive()

    def deliver_due(self, *, whatever_is_due: bool = False) -> float | None:
        """Delivers once what is due; after how many seconds there is more to do, None when nothing waits."""
        self._adopt()
        self._save()
        for queue in self._queues.values():
            while queue.entries and (whatever_is_due or queue.due_at <= self._ticks()):
                if (whatever_is_due and self._ticks() >= self._give_up_at) or not self._deliver_next(queue):
                    break
        unsaved = self._save()
        waits = [max(0.0, queue.due_at - self._ticks()) for queue in self._queues.values() if queue.entries]
        return min([*waits, SAVE_AGAIN_S] if unsaved else waits, default=None)

    def _run(self) -> None:
        wait_s: float | None = 0.0
        while not self._stopping.is_set():
            self._woken.wait(wait_s)
            self._woken.clear()
            if not self._stopping.is_set():
                wait_s = self._try(whatever_is_due=False)
        self._try(whatever_is_due=True)

    def _try(self, *, whatever_is_due: bool) -> float | None:
        try:
            return self.deliver_due(whatever_is_due=whatever_is_due)
        except Exception as error:  # noqa: BLE001  the edge of the thread: nothing may end it
            log.error("outbox_failed", error=str(error), kind=type(error).__name__)
            return FIRST_RETRY_S

    def _deliver_next(self, queue: _Queue) -> bool:
        """Delivers as many notices as go into one message; whether the chat may be sent more."""
        with self._lock:
            text, taken, dropped = self._grouped(queue)
        if not taken:  # Left to another process just now.
            return False
        try:
            self._deliver(queue.chat, text)
        except NotDelivered as error:
            wait_s = queue.backoff.next_s() if error.retry_after_s is None else max(0.0, error.retry_after_s)
            self._put_off(queue, wait_s, str(error.__cause__ or error))
            return False
        except Undeliverable as error:
            log.error("notice_refused", chat=queue.chat, notices=len(taken), error=str(error))
        except Exception as error:  # noqa: BLE001  a failure nobody foresaw must not hold up what comes after it
            queue.failed += 1
            if queue.failed < TRIES_OF_UNKNOWN:
                self._put_off(queue, queue.backoff.next_s(), f"{type(error).__name__}: {error}")
                return False
            log.error("notice_given_up", chat=queue.chat, notices=len(taken), kind=type(error).__name__)
        queue.backoff.reset()
        queue.due_at, queue.failed = 0.0, 0
        with self._lock:
            queue.dropped -= dropped
            for entry in taken:
                # More may have been posted meanwhile, and the oldest dropped for it.
                if queue.entries and queue.entries[0] is entry:
                    queue.entries.popleft()
                elif queue.dropped:
                    queue.dropped -= 1
        return True

    def _put_off(self, queue: _Queue, wait_s: float, why: str) -> None:
        queue.due_at = self._ticks() + wait_s
        log.warning("notice_not_delivered", chat=queue.chat, pending=len(queue.entries), retry_s=wait_s, error=why)

    def _grouped(self, queue: _Queue) -> tuple[str, list[_Entry], int]:
        """The next message, what it holds, and how many dropped notices it speaks of."""
        now, chars = self._clock(), 0
        taken: list[_Entry] = []
        parts: list[str] = []
        if queue.dropped:
            parts.append(f"({queue.dropped} older notices were dropped: too many waited to be delivered.)")
        for entry in queue.entries:
            late = now - entry.at >= LATE
            text = f"[{entry.at.astimezone(self._zone):%Y-%m-%d %H:%M %Z}] {entry.text}" if late else entry.text
            if len(text) > MOST_CHARS:
                text = f"{text[: MOST_CHARS - 2]} …"
            if taken and chars + len(text) > MOST_CHARS:
                break
            parts.append(text)
            taken.append(entry)
            chars += len(text) + 2
        return "\n\n".join(parts), taken, queue.dropped

    def _adopt(self) -> None:
        """Takes over what is kept in the notes, ahead of what came since."""
        with self._lock:
            store = self._store if self._adopting else None
        if store is None:
            return
        try:
            note = self._slot.call(lambda: store.recall(NOTE), SAVE_WITHIN_S)
        except KeystoreError as error:
            log.warning("outbox_not_read", error=str(error))
            return
        kept = _read(note.document) if note is not None else {}
        with self._lock:
            if self._store is not store:
                return
            self._adopting = False
            self._saved = note.document if note is not None else None
            for chat, (entries, dropped) in kept.items():
                queue = self._queues.get(chat)
                if queue is not None:
                    queue.entries.extendleft(reversed(entries))
                    queue.dropped += dropped
                    _bound(queue)

    def _save(self) -> bool:
        """Notes down what waits, where that has changed; whether there is something left to note down."""
        with self._lock:
            store = self._store
            if store is None:
                return False
            if self._adopting:
                return True
            document = _written(self._queues.values())
        if document == self._saved:
            return False
        try:
            self._slot.call(lambda: store.remember(NOTE, document), SAVE_WITHIN_S)
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

    def _forget_kept(self, saved: str) -> None:
        for chat, (entries, _) in _read(saved).items():
            queue = self._queues.get(chat)
            if queue is not None:
                queue.entries = deque(entry for entry in queue.entries if entry not in entries)


def _bound(queue: _Queue) -> None:
    while len(queue.entries) > MOST_PENDING:
        queue.entries.popleft()
        queue.dropped += 1


def _written(queues: Iterable[_Queue]) -> str | None:
    """What waits, as a document; None when nothing does."""
    waiting = {
        str(queue.chat): {
            "dropped": queue.dropped,
            "entries": [(entry.at.isoformat(), entry.text) for entry in queue.entries],
        }
        for queue in queues
        if queue.entries
    }
    return json.dumps(waiting, ensure_ascii=False) if waiting else None


def _read(document: str) -> dict[int, tuple[list[_Entry], int]]:
    """What a document holds, by chat; nothing where it isn't one of ours."""
    try:
        return {
            int(chat): (
                [_Entry(datetime.fromisoformat(at), str(text)) for at, text in waiting["entries"]],
                int(waiting["dropped"]),
            )
            for chat, waiting in json.loads(document).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("outbox_not_readable", error=str(error))
        return {}
