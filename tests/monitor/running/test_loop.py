"""Jobs run at their intervals through steps of the wall clock, a failing job starves no other, and the loop stops."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from structlog.testing import capture_logs

from monitor.running.loop import Loop
from rig.fixtures.clock import Ticks
from rig.paths import PROJECT
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
def ticks() -> Ticks:
    """The clock of the loops, standing still until it is moved."""
    return Ticks()


def test_a_job_runs_at_its_interval(ticks: Ticks) -> None:
    loop, job = Loop(ticks=ticks), Job()
    loop.every(6 * HOUR_S, "sweep", job)
    loop.run_all()
    assert job.runs == 1
    ticks.now_s += 6 * HOUR_S - 1
    loop.run_due()
    assert job.runs == 1
    ticks.now_s += 1
    loop.run_due()
    assert job.runs == 2


@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(days=40), timedelta(days=-40)], ids=str)
def test_a_step_of_the_wall_clock_changes_no_interval(ticks: Ticks, step: timedelta) -> None:
    loop, job = Loop(ticks=ticks), Job()
    with time_machine.travel(datetime(2025, 10, 8, 9, 0, tzinfo=UTC), tick=False) as traveller:
        loop.every(60, "look", job)
        loop.run_all()
        traveller.shift(step)
        for minute in range(1, 6):
            ticks.now_s += 59
            loop.run_due()
            assert job.runs == minute
            ticks.now_s += 1
            loop.run_due()
            assert job.runs == minute + 1


@pytest.mark.slow
def test_a_loop_goes_on_where_summer_time_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOKS_EACH_SECOND],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    offsets, pauses_s = json.loads(done.stdout)
    assert (offsets[0], offsets[-1]) == (7_200, 3_600), "the clock of that zone was set back meanwhile"
    assert max(pauses_s) < 30, pauses_s


LOOKS_EACH_SECOND = """
import json, os, threading, time
from datetime import UTC, datetime, timedelta
from monitor.running.loop import Loop

offsets, times, enough = [], [], threading.Event()

def look():
    offsets.append(time.localtime().tm_gmtoff)
    times.append(time.monotonic())
    if len(times) >= 8 and offsets[-1] == 3600:
        enough.set()

ends_at = (datetime.now(UTC) + timedelta(seconds=3)).replace(microsecond=0) + timedelta(hours=2)  # In local time: CEST.
day = ends_at.replace(year=2025).timetuple().tm_yday  # A TZ rule's `J` doesn't count 29 February.
os.environ["TZ"] = f"CET-1CEST,J1/0,J{day}/{ends_at:%H:%M:%S}"
time.tzset()
loop = Loop()
loop.every(1, "look", look)
loop.start()
enough.wait(60)
print(json.dumps([offsets, [after - before for before, after in zip(times, times[1:])]]))
"""
"""A program in a zone that sets its clock back by an hour, three seconds after the start."""


def test_a_failing_job_is_logged_and_retried_after_longer_pauses(ticks: Ticks) -> None:
    loop, job = Loop(first_retry_s=30, ticks=ticks), Job(broken=True)
    loop.every(6 * HOUR_S, "sweep", job)
    with capture_logs() as logs:
        loop.run_all()
        for runs, wait_s in ((2, 30), (3, 60), (4, 120), (5, 240)):
            ticks.now_s += wait_s - 1
            loop.run_due()
            assert job.runs == runs - 1
            ticks.now_s += 1
            loop.run_due()
            assert job.runs == runs
    assert [(entry["event"], entry["job"], entry["error"]) for entry in logs] == [
        ("job_failed", "sweep", "the database went away")
    ] * 5


def test_a_job_that_recovers_goes_back_to_its_interval(ticks: Ticks) -> None:
    loop, job = Loop(first_retry_s=30, ticks=ticks), Job(broken=True)
    loop.every(6 * HOUR_S, "sweep", job)
    loop.run_all()
    job.broken = False
    ticks.now_s += 30
    loop.run_due()
    assert job.runs == 2
    ticks.now_s += HOUR_S
    loop.run_due()
    assert job.runs == 2, "no retry is left"
    ticks.now_s += 6 * HOUR_S
    loop.run_due()
    assert job.runs == 3


def test_a_job_that_asks_to_run_again_does_and_returns_to_its_interval(
    ticks: Ticks,
) -> None:
    loop = Loop(ticks=ticks)
    answers: list[float | None] = [30.0, 30.0, None, None]
    left = answers.copy()
    loop.every(6 * HOUR_S, "sweep", lambda: left.pop(0))
    loop.run_all()
    for expected in (2, 1):
        ticks.now_s += 30
        loop.run_due()
        assert len(left) == expected
    ticks.now_s += HOUR_S
    loop.run_due()
    assert len(left) == 1
    ticks.now_s += 6 * HOUR_S
    loop.run_due()
    assert left == []


def test_a_failing_job_starves_no_other(ticks: Ticks) -> None:
    loop, broken, well = Loop(ticks=ticks), Job(broken=True), Job()
    loop.every(HOUR_S, "broken", broken)
    loop.every(HOUR_S, "well", well)
    loop.run_all()
    for _ in range(5):
        ticks.now_s += HOUR_S
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
