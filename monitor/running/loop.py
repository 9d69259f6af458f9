"""Repeats jobs in a thread of its own: `schedule`, wrapped.

`schedule` counts in naive local time. Where summer time ends, or the clock is set back, its jobs stand still for as
long as the clock repeats. So here the times of its jobs come from a monotonic clock.

It also leaves a job that raises due, so that it starves the others, and it has no retries. So each job is wrapped:
a failure is logged, never ends the loop, and is tried again after a short pause that doubles up to the job's own
interval. A job that could not do its work for now returns when to run it again.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

import structlog
from schedule import Job, Scheduler

from monitor.running.backoff import Backoff, no_jitter

FIRST_RETRY_S = 5.0
_LONGEST_SLEEP_S = 60.0

log = structlog.get_logger()


class Loop:
    """Runs jobs at their intervals, the first time at once, one after the other, until it is stopped.

    The intervals are those of `ticks`, a monotonic clock in seconds: no step of the wall clock changes them.
    """

    def __init__(
        self, name: str = "loop", first_retry_s: float = FIRST_RETRY_S, ticks: Callable[[], float] = monotonic
    ) -> None:
        self._scheduler = _MonotonicScheduler(ticks)
        self._first_retry_s = first_retry_s
        self.stopping = threading.Event()
        """Set once the loop should end; a long job looks at it between its steps."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def every(self, seconds: float, name: str, run: Callable[[], float | None]) -> None:
        """Add a job, before `start`. If it returns a number, it runs again after that many seconds."""
        backoff = Backoff(min(self._first_retry_s, seconds), seconds, no_jitter)
        job = self._scheduler.every(max(1, round(seconds)))
        job.seconds.do(self._run_job, job, name, run, backoff)

    def start(self) -> None:
        """Begin, with a run of each job."""
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Ask the loop to end and wait for it; True when it ended in time."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)
        return not self._thread.is_alive()

    def run_all(self) -> None:
        """Run every job once."""
        for job in self._scheduler.get_jobs():
            job.next_run = self._scheduler.now()
        self.run_due()

    def run_due(self) -> None:
        """Run the jobs that are due."""
        self._scheduler.run_pending()

    def _run(self) -> None:
        self.run_all()
        while not self.stopping.is_set():
            idle_s = self._scheduler.idle_seconds
            self.stopping.wait(_LONGEST_SLEEP_S if idle_s is None else min(max(idle_s, 0.0), _LONGEST_SLEEP_S))
            self.run_due()

    def _run_job(self, job: "_MonotonicJob", name: str, run: Callable[[], float | None], backoff: Backoff) -> None:
        """Run a job; after a failure it runs again after the backoff's pause."""
        if self.stopping.is_set():
            return
        try:
            job.again_s = run()
        except Exception as error:  # noqa: BLE001  the edge of the thread: one job's failure ends nothing
            job.again_s = backoff.next_s()
            log.error("job_failed", job=name, error=str(error), kind=type(error).__name__, retry_s=job.again_s)
        else:
            backoff.reset()


class _MonotonicScheduler(Scheduler):
    """A scheduler whose times are those of a monotonic clock, as datetimes since its start."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        super().__init__()
        self._ticks = ticks

    def now(self) -> datetime:
        """The monotonic clock's time."""
        return datetime.min.replace(tzinfo=UTC) + timedelta(seconds=self._ticks())

    def every(self, interval: int = 1) -> "_MonotonicJob":
        return _MonotonicJob(interval, self)

    @property
    def idle_seconds(self) -> float | None:
        next_run: datetime | None = self.next_run
        return None if next_run is None else (next_run - self.now()).total_seconds()


class _MonotonicJob(Job):
    """A job with an interval in seconds, by its scheduler's clock."""

    scheduler: _MonotonicScheduler
    again_s: float | None = None
    """Seconds until the next run, where it isn't the interval; set by each run."""

    @property
    def should_run(self) -> bool:
        return self.next_run is not None and self.scheduler.now() >= self.next_run

    def _schedule_next_run(self) -> None:
        pause_s = self.interval if self.again_s is None else max(1.0, self.again_s)
        self.next_run = self.scheduler.now() + timedelta(seconds=pause_s)
