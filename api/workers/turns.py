"""Decides which of the requests that wait for a thread runs next.

A request needs a thread only while Python code runs for it. `Turns` limits the requests that run at once in the whole
worker, in each lane, and for each company; the others wait here without a thread, in order. So a slow database, large
documents or strangers take a share of the threads, never all of them.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

MAX_RUNNING = 32
"""Requests that run at once in a worker. Most of the time they wait for the database."""

MAX_RUNNING_OF_A_COMPANY = 4


@dataclass(frozen=True, eq=False)
class Lane:
    """A kind of work: how much of it runs at once, and how much may wait."""

    label: str
    max_running: int
    max_waiting: int


COMPANIES = Lane("companies", MAX_RUNNING, 20_000)
"""Requests with a token that is known. `api.access.rate_limit` limits the waiting requests of each token."""

LARGE = Lane("large", 2, 20_000)
"""Requests whose body or answer is large: each needs several times its size while it runs."""

SLOW = Lane("slow", 4, 16)
"""Requests of a company after the database ended one by its own limit, for example because its rows were locked. Each
may hold a connection for 5 seconds. So half of the connections, by default, are left for others, and the last request
that waits has its answer within 30 seconds."""

LOOKUPS = Lane("lookups", 4, 2_000)
"""Look-ups of tokens."""

OPEN = Lane("open", 4, 64)
"""Requests that need no token."""


@dataclass(eq=False, slots=True)
class Work:
    """Work of one lane; `company` is None if it is for no company.

    `run` may return a function that goes on once this work no longer counts.
    """

    lane: Lane
    company: str | None
    run: Callable[[], Callable[[], None] | None]


class Turns:
    """The work that runs and the work that waits. It is thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._in_lane: dict[Lane, int] = dict.fromkeys((COMPANIES, LARGE, SLOW, LOOKUPS, OPEN), 0)
        self._of_company: dict[str, int] = {}
        self._waiting: deque[Work] = deque()
        self._waiting_in_lane = dict.fromkeys(self._in_lane, 0)
        self._threads = ThreadPoolExecutor(MAX_RUNNING, "turns")
        """Threads for work whose turn comes while no other work ends in a thread of its own."""

    def begin(self, work: Work) -> bool:
        """Run the work in this thread if it is its turn; otherwise it waits, and another thread runs it.

        Return False if too much work of its lane waits already; then it is not run.
        """
        with self._lock:
            if not self._is_turn_of(work):
                if self._waiting_in_lane[work.lane] >= work.lane.max_waiting:
                    return False
                self._waiting.append(work)
                self._waiting_in_lane[work.lane] += 1
                return True
            self._count(work, 1)
        self._run(work)
        return True

    def call_elsewhere(self, function: Callable[[], None]) -> None:
        """Call a function in another thread."""
        self._threads.submit(function)

    def _run(self, work: Work) -> None:
        running: Work | None = work
        while running is not None:
            go_on = None
            try:
                go_on = running.run()
            except Exception as error:  # noqa: BLE001  the edge of the work: the next runs all the same
                log.error("work_failed", lane=running.lane.label, error=type(error).__name__)
            running = self._after(running)
            if go_on is not None and running is not None:
                self._threads.submit(go_on)
            elif go_on is not None:
                go_on()

    def _after(self, work: Work) -> Work | None:
        """Return the work that runs next in the thread of `work`; other threads run the rest whose turn has come."""
        with self._lock:
            self._count(work, -1)
            if not self._waiting:
                return None
            ready = []
            for waiting in list(self._waiting):
                if self._running >= MAX_RUNNING:
                    break
                if self._is_turn_of(waiting):
                    self._waiting.remove(waiting)
                    self._waiting_in_lane[waiting.lane] -= 1
                    self._count(waiting, 1)
                    ready.append(waiting)
        for other in ready[1:]:
            self._threads.submit(self._run, other)
        return ready[0] if ready else None

    def _is_turn_of(self, work: Work) -> bool:
        return (
            self._running < MAX_RUNNING
            and self._in_lane[work.lane] < work.lane.max_running
            and (work.company is None or self._of_company.get(work.company, 0) < MAX_RUNNING_OF_A_COMPANY)
        )

    def _count(self, work: Work, change: int) -> None:
        self._running += change
        self._in_lane[work.lane] += change
        if work.company is not None:
            running = self._of_company.get(work.company, 0) + change
            if running:
                self._of_company[work.company] = running
            else:
                del self._of_company[work.company]
