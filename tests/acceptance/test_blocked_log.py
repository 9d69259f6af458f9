"""A standard error that nobody reads holds up no request, no sweep and no end of a process."""

import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from api.access.tokens import create_token
from keystore import open_store
from rig.program import RUN, environment
from rig.waiting import eventually
from tests.api.service import ask

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("blocked_log")]

SMALLEST_PIPE = 4_096
REQUESTS = 100
"""Enough lines to fill the pipe several times."""


@dataclass(frozen=True)
class Unread:
    """A running service of which nobody reads the log any more, and an admin token."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    def set_pre_key(self, turn: int) -> int:
        """Write the same pre-key with another value, which is logged as a warning; the answer's status."""
        path = "/v1/companies/1/keys"
        return ask(self.port, "POST", path, {"pre-key": {"1": {"turn": turn}}}, token=self.token).status


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Unread]:
    """The service with a full pipe for its standard error."""
    url = f"sqlite:///{tmp_path}/k.db"
    with open_store(url) as store:
        token = create_token(store, None, None)[0]
    settings = {"KEYSTORE_LOG": "json", "KEYSTORE_HTTP": "127.0.0.1:0"}
    process = subprocess.Popen(
        [sys.executable, RUN], env=environment(url, settings), cwd=tmp_path, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    try:
        events = (json.loads(line) for line in process.stderr)
        address = next(event["http"] for event in events if event["event"] == "serving")
        service = Unread(process, int(urlsplit(address).port or 0), token)
        for turn in range(REQUESTS):
            assert service.set_pre_key(turn) == 204
        yield service
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


def test_requests_are_answered_and_sigterm_ends_the_service(unread: Unread) -> None:
    workers = psutil.Process(unread.process.pid).children()
    unread.process.send_signal(signal.SIGTERM)
    assert unread.process.wait(20) == 0
    assert not any(worker.is_running() for worker in workers)


def test_the_workers_end_when_the_service_is_killed(unread: Unread) -> None:
    workers = psutil.Process(unread.process.pid).children()
    unread.process.kill()
    eventually(lambda: not any(worker.is_running() for worker in workers), "the workers end by themselves")
