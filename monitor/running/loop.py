"""Repeats jobs in a thread of its own: `schedule`, wrapped.

`schedule` leaves a job that raises due for ever, and lets it starve the others; and it knows no retry. So each job is
wrapped: a failure is logged, never ends the loop, and is tried again after a short while that doubles up to the
job's own interval. A job that could not do its work for now says when to come again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from schedule import CancelJob, Scheduler

FIRST_RETRY_S = 5.0
_LONGEST_SLEEP_S = 60.0

log = structlog.get_logger()


@dataclass
class _Job:
    name: str
    run: Callable[[], float | None]
    every_s: float
    retry_s: float


class Loop:
    """Runs jobs at their intervals, the first time at once, one after the other, until it is stopped."""

    def __init__(self, name: str = "loop", first_retry_s: float = FIRST_RETRY_S) -> None:
        self._scheduler = Scheduler()
        self._first_retry_s = first_retry_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> threading.Event:
        """Set once the loop should end; a long job looks at it between its steps."""
        return self._stopping

    def every(self, seconds: float, name: str, job: Callable[[], float | None]) -> None:
        """Adds a job, before `start`. A number that it returns is after how many seconds to run it once more."""
        kept = _Job(name, job, seconds, min(self._first_retry_s, seconds))
        self._scheduler.every(max(1, round(seconds))).seconds.do(self._try, kept)

    def start(self) -> None:
        """Begins, each job's first run first."""
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Asks the loop to end and waits for it; returns whether it did."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)
        return not self._thread.is_alive()

    def run_all(self) -> None:
        """Runs every job once."""
        self._scheduler.run_all()

    def run_due(self) -> None:
        """Runs the jobs that are due."""
        self._scheduler.run_pending()

    def _run(self) -> None:
        self.run_all()
        while not self._stopping.is_set():
            idle_s = self._scheduler.idle_seconds
            self._stopping.wait(_LONGEST_SLEEP_S if idle_s is None else min(max(idle_s, 0.0), _LONGEST_SLEEP_S))
            self.run_due()

    def _try(self, job: _Job) -> None:
        """Runs a job; after a failure it is due again, once, in `retry_s` seconds."""
        if self._stopping.is_set():
            return
        self._scheduler.clear(f"again {job.name}")
        try:
            again_s = job.run()
        except Exception as error:  # noqa: BLE001  the edge of the thread: one job's failure ends nothing
            log.error("job_failed", job=job.name, error=str(error), kind=type(error).__name__, retry_s=job.retry_s)
            again_s = job.retry_s
            job.retry_s = min(job.retry_s * 2, job.every_s)
        else:
            job.retry_s = min(self._first_retry_s, job.every_s)
        if again_s is not None:
            self._scheduler.every(max(1, round(again_s))).seconds.do(self._again, job).tag(f"again {job.name}")

    def _again(self, job: _Job) -> type[CancelJob]:
        self._try(job)
        return CancelJob
