"""Jobs run at their intervals, a failing job is retried and starves no other, and the loop stops when asked."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from structlog.testing import capture_logs

from monitor.running.loop import Loop
from rig.waiting import eventually

HOUR_S = 3_600.0


class Job:
    """A job that counts its runs and fails while `broken`."""

    def __init__(self, *, broken: bool = False) -> None:
        self.runs = 0
        self.broken = broken

    def __call__(self) -> None:
        self.runs += 1
        if self.broken:
            raise RuntimeError("the database went away")


@pytest.fixture
def traveller() -> Iterator[time_machine.Traveller]:
    """The clock of the whole process, standing still until it is moved."""
    with time_machine.travel(datetime(2025, 10, 8, 9, 0, tzinfo=UTC), tick=False) as traveller:
        yield traveller


def test_a_job_runs_at_its_interval(traveller: time_machine.Traveller) -> None:
    loop, job = Loop(), Job()
    loop.every(6 * HOUR_S, "sweep", job)
    loop.run_all()
    assert job.runs == 1
    traveller.shift(6 * HOUR_S - 1)
    loop.run_due()
    assert job.runs == 1
    traveller.shift(1)
    loop.run_due()
    assert job.runs == 2


def test_a_failing_job_is_logged_and_retried_after_longer_pauses(traveller: time_machine.Traveller) -> None:
    loop, job = Loop(first_retry_s=30), Job(broken=True)
    loop.every(6 * HOUR_S, "sweep", job)
    with capture_logs() as logs:
        loop.run_all()
        for runs, wait_s in ((2, 30), (3, 60), (4, 120), (5, 240)):
            traveller.shift(wait_s - 1)
            loop.run_due()
            assert job.runs == runs - 1
            traveller.shift(1)
            loop.run_due()
            assert job.runs == runs
    assert [(entry["event"], entry["job"], entry["error"]) for entry in logs] == [
        ("job_failed", "sweep", "the database went away")
    ] * 5


def test_a_job_that_recovers_goes_back_to_its_interval(traveller: time_machine.Traveller) -> None:
    loop, job = Loop(first_retry_s=30), Job(broken=True)
    loop.every(6 * HOUR_S, "sweep", job)
    loop.run_all()
    job.broken = False
    traveller.shift(30)
    loop.run_due()
    assert job.runs == 2
    traveller.shift(HOUR_S)
    loop.run_due()
    assert job.runs == 2, "no retry is left"
    traveller.shift(6 * HOUR_S)
    loop.run_due()
    assert job.runs == 3


def test_a_job_that_asks_to_run_again_does_and_returns_to_its_interval(
    traveller: time_machine.Traveller,
) -> None:
    loop = Loop()
    answers: list[float | None] = [30.0, 30.0, None, None]
    left = answers.copy()
    loop.every(6 * HOUR_S, "sweep", lambda: left.pop(0))
    loop.run_all()
    for expected in (2, 1):
        traveller.shift(30)
        loop.run_due()
        assert len(left) == expected
    traveller.shift(HOUR_S)
    loop.run_due()
    assert len(left) == 1
    traveller.shift(6 * HOUR_S)
    loop.run_due()
    assert left == []


def test_a_failing_job_starves_no_other(traveller: time_machine.Traveller) -> None:
    loop, broken, well = Loop(), Job(broken=True), Job()
    loop.every(HOUR_S, "broken", broken)
    loop.every(HOUR_S, "well", well)
    loop.run_all()
    for _ in range(5):
        traveller.shift(HOUR_S)
        loop.run_due()
    assert well.runs == 6
    assert broken.runs >= 6


def test_the_first_run_comes_at_once_and_stop_ends_the_thread() -> None:
    loop, ran = Loop(), threading.Event()
    loop.every(HOUR_S, "sweep", lambda: ran.set())
    loop.start()
    assert ran.wait(10)
    assert loop.stop(10)
    eventually(lambda: all(thread.name != "loop" for thread in threading.enumerate()), "the loop's thread ends")


def test_a_running_job_sees_that_the_loop_is_stopping() -> None:
    loop, began = Loop(), threading.Event()
    saw: list[bool] = []

    def job() -> None:
        began.set()
        saw.append(loop.stopping.wait(10))

    loop.every(HOUR_S, "sweep", job)
    loop.start()
    assert began.wait(10)
    assert loop.stop(10)
    assert saw == [True]


def test_stop_tells_whether_the_running_job_has_ended() -> None:
    loop, release, began = Loop(), threading.Event(), threading.Event()

    def job() -> None:
        began.set()
        release.wait(10)

    loop.every(HOUR_S, "sweep", job)
    loop.start()
    assert began.wait(10)
    assert not loop.stop(0.01)
    release.set()
    assert loop.stop(10)


def test_a_loop_that_never_started_stops() -> None:
    assert Loop().stop(0.01)
