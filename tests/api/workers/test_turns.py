"""Turns of requests and the memory that they take: limits of the worker, of a lane, of a company and of a token."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from api.problems import Problem
from api.workers.descriptors import (
    MAX_CLIENT_CONNECTIONS,
    OWN_DESCRIPTORS,
    RESERVED,
    connections_within,
    cut_connection,
)
from api.workers.exchange import charged_company
from api.workers.memory_budget import MAX_BYTES_OF_A_TOKEN, MemoryBudget
from api.workers.turns import COMPANIES, LARGE, MAX_RUNNING, MAX_RUNNING_OF_A_COMPANY, OPEN, Lane, Turns, Work
from keystore.records import TokenRecord
from rig.paths import PROJECT
from rig.waiting import eventually

LONG_S = 60.0


class Runs:
    """Work that runs until the test ends it, each in a thread of its own, as Granian has them."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.running: list[str] = []
        self._ends: dict[str, threading.Event] = {}

    def begin(self, name: str, lane: Lane, company: str | None = None) -> None:
        """Begin work, or have it wait."""
        self._ends[name] = threading.Event()
        threading.Thread(target=self.turns.begin, args=(Work(lane, company, self._run(name)),), daemon=True).start()

    def _run(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.running.append(name)
            self._ends[name].wait(LONG_S)
            self.running.remove(name)

        return run

    def expect(self, *names: str) -> None:
        """Wait until exactly this work runs."""
        eventually(lambda: sorted(self.running) == sorted(names), f"{names} run, not {self.running}")

    def end(self, name: str) -> None:
        """End work."""
        self._ends[name].set()


def test_a_company_and_a_lane_have_a_share_and_the_others_go_on() -> None:
    runs = Runs()
    companies = [f"a{number}" for number in range(MAX_RUNNING_OF_A_COMPANY)]
    for name in companies:
        runs.begin(name, COMPANIES, "a")
    runs.expect(*companies)
    large = [f"l{number}" for number in range(LARGE.max_running)]
    for name in large:
        runs.begin(name, LARGE, name)
    runs.expect(*companies, *large)
    runs.begin("a-later", COMPANIES, "a")
    runs.begin("l-later", LARGE, "later")
    runs.begin("b", COMPANIES, "b")
    runs.expect(*companies, *large, "b")
    runs.end("a0")
    runs.expect(*companies[1:], *large, "b", "a-later")
    runs.end("l0")
    runs.expect(*companies[1:], *large[1:], "b", "a-later", "l-later")
    for name in (*companies, *large, "b", "a-later", "l-later"):
        runs.end(name)
    runs.expect()


def test_work_that_ends_lets_all_run_whose_turn_has_come() -> None:
    runs = Runs()
    names = [f"{number}" for number in range(MAX_RUNNING)]
    for number, name in enumerate(names):
        runs.begin(name, COMPANIES, f"{number % 16}")
    runs.expect(*names)
    runs.begin("waits", COMPANIES, "0")
    runs.begin("too", OPEN)
    runs.end("0")
    runs.end("1")
    runs.expect(*names[2:], "waits", "too")
    for name in (*names, "waits", "too"):
        runs.end(name)
    runs.expect()


def test_work_that_fails_ends_its_turn_and_too_much_waiting_work_is_refused() -> None:
    def fails() -> None:
        raise ValueError("failed")

    turns = Turns()
    assert all(turns.begin(Work(OPEN, None, fails)) for _ in range(OPEN.max_running + 1))
    release = threading.Event()

    def waits() -> None:
        release.wait(LONG_S)

    for _ in range(OPEN.max_running):
        threading.Thread(target=turns.begin, args=(Work(OPEN, None, waits),), daemon=True).start()
    accepted = []
    eventually(
        lambda: not (accepted.append(turns.begin(Work(OPEN, None, waits))) or accepted[-1]),  # type: ignore[func-returns-value]
        "the lane is full",
    )
    release.set()
    assert len(accepted) <= OPEN.max_waiting + 1


def test_memory_is_counted_for_a_token_and_altogether() -> None:
    budget = MemoryBudget(of_a_token=100, altogether=150)
    budget.reserve("a", 500)
    budget.release("a", 500)
    budget.reserve("a", 60)
    with pytest.raises(Problem) as refused:
        budget.reserve("a", 50)
    assert refused.value.status == 429
    budget.reserve("b", 90)
    with pytest.raises(Problem) as refused:
        budget.reserve("c", 10)
    assert (refused.value.status, refused.value.slug) == (503, "busy")
    budget.release("a", 60)
    budget.reserve("c", 10)
    assert budget.held == 100


def test_large_bodies_of_a_token_are_limited_by_its_number_of_companies() -> None:
    budget, size = MemoryBudget(), MAX_BYTES_OF_A_TOKEN + MAX_BYTES_OF_A_TOKEN // 2
    budget.spend("one", 1, size)
    budget.spend("three", 3, size)
    with pytest.raises(Problem) as refused:
        budget.require_allowance("one", 1)
    assert refused.value.status == 429
    budget.require_allowance("three", 3)


def test_a_request_counts_for_a_company_that_its_token_reaches() -> None:
    now = datetime.now(UTC)
    admin, single = TokenRecord("t", b"", None, now, None, None), TokenRecord("t", b"", "a", now, None, None)
    several = replace(single, further_companies=("b", "c"))
    paths = ("/v1/companies/a/keys", "/v1/companies/company_b/keys", "/v1/companies/x", "/v1/writes")
    assert [charged_company(admin, path) for path in paths] == ["a", "b", "x", None]
    assert [charged_company(single, path) for path in paths] == ["a"] * 4
    assert [charged_company(several, path) for path in paths] == ["a", "b", "a", "a"]


def test_connections_fit_into_the_descriptors() -> None:
    for descriptors in (64, 256, 1_024, 4_096, 20_000, 1_000_000):
        connections = connections_within(descriptors)
        assert 0 < connections < descriptors
        assert connections <= MAX_CLIENT_CONNECTIONS
    assert connections_within(1_024) == 1_024 - RESERVED
    assert connections_within(-1) == MAX_CLIENT_CONNECTIONS


def test_the_limit_of_open_files_is_raised_as_far_as_allowed() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1_024)); "
        "from api.workers.descriptors import raise_descriptor_limit; "
        "print(raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{1_024 - RESERVED} 1024"


def test_a_connection_is_cut_by_its_clients_address_and_no_descriptor_is_left_open() -> None:
    before = sorted(os.listdir(OWN_DESCRIPTORS))
    left, right = socket.socketpair()  # Its ends have no address.
    with (
        left,
        right,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        served, _ = listener.accept()
        with served:
            host, port = client.getsockname()
            assert not cut_connection(f"{host}:1")
            assert cut_connection(f"{host}:{port}")
            client.settimeout(5)
            assert client.recv(1) == b""
    assert sorted(os.listdir(OWN_DESCRIPTORS)) == before
