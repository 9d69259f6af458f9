"""`run.py` as a process of its own, in an environment without settings of ours; its log goes to a file."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from keystore.errors import KeystoreError
from rig.paths import PROJECT
from rig.waiting import eventually

RUN = PROJECT / "run.py"
TIMEOUT_S = 60.0
STEERING = ("KEYSTORE_", "TELEGRAM_", "DATABASE_URL", "PG")
"""Prefixes of the variables that steer the program or libpq."""


def environment(url: str | None, settings: Mapping[str, str]) -> dict[str, str]:
    """Return our environment with these settings in place of our own; the API listens on any free port."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    database = {} if url is None else {"KEYSTORE_URL": url}
    return {**inherited, "KEYSTORE_HTTP": "127.0.0.1:0", **database, **settings}


def run(
    *args: str, url: str | None = None, cwd: Path | None = None, settings: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, RUN, *args],
        env=environment(url, settings),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def new_token(url: str, company: str | None = None) -> str:
    """Make a token for the company in the database at `url`, or an admin's. Raises KeystoreError."""
    access = ["--admin"] if company is None else ["--company", company]
    done = run("token", "create", *access, "--json", url=url)
    if done.returncode:
        raise KeystoreError(f"no token was made: {done.stderr.strip()}")
    return str(json.loads(done.stdout)["token"])


class Service:
    """`run.py` serving, with JSON logs."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def events(self) -> list[dict[str, Any]]:
        """The entries logged so far, without the line of an error and one that is still being written."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n") and not line.startswith("error: ")]

    @property
    def url(self) -> str:
        """The address of the API."""
        return str(self.logged("serving")["http"])

    @property
    def port(self) -> int:
        """The port of the API."""
        return int(urlsplit(self.url).port or 0)

    def logged(self, event: str, within_s: float = 30) -> dict[str, Any]:
        """Wait for an event and return its entry. Raises KeystoreError if the process ends or it takes too long."""

        def entries() -> list[dict[str, Any]]:
            if self.process.poll() is not None and event != "stopped":
                raise KeystoreError(f"run.py didn't start, or ended early:\n{self._log.read_text(encoding='utf-8')}")
            return [entry for entry in self.events if entry["event"] == event]

        eventually(lambda: bool(entries()), f"{event} is logged", within_s)
        return entries()[0]

    def end(self, signal_number: signal.Signals, within_s: float = 20.0) -> int:
        """Send a signal and return the exit code. Raises TimeoutExpired if the process is still there then."""
        self.process.send_signal(signal_number)
        return self.process.wait(within_s)


@contextmanager
def serving(log: Path, url: str | None = None, cwd: Path | None = None, **settings: str) -> Iterator[Service]:
    """Run the service for the block, once it serves; it is killed if it is still there afterwards."""
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, RUN],
            env=environment(url, {"KEYSTORE_LOG": "json", **settings}),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    service = Service(process, log)
    try:
        service.logged("serving")
        yield service
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


@contextmanager
def serving_database(url: str, **settings: str) -> Iterator[Service]:
    """Run the service on the database at `url` for the block, in a folder of its own, and stop it in an orderly way."""
    with (
        tempfile.TemporaryDirectory(prefix="keystore-service-") as folder,
        serving(Path(folder) / "log", url, Path(folder), **settings) as service,
    ):
        yield service
        service.end(signal.SIGTERM)
