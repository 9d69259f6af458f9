"""`run.py` as a process of its own, with nothing of our environment that steers it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from rig.paths import PROJECT
from rig.waiting import eventually

RUN = PROJECT / "run.py"
TIMEOUT_S = 60.0
STEERING = ("KEYSTORE_", "TELEGRAM_", "DATABASE_URL", "PG")


def environment(url: str | None, settings: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what steers the program, and with these settings; the API on whatever port is free."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    given = {} if url is None else {"KEYSTORE_URL": url}
    return {**kept, "KEYSTORE_HTTP": "127.0.0.1:0", **given, **settings}


def run(
    *args: str, url: str | None = None, cwd: Path | None = None, settings: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
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


def report(*args: str, url: str, **settings: str) -> Any:
    """Runs a command with `--json`; what it printed."""
    done = run(*args, "--json", url=url, settings=settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def told(*args: str, url: str | None = None, cwd: Path | None = None, code: int = 1, **settings: str) -> str:
    """Runs a command that fails; its one line."""
    done = run(*args, url=url, cwd=cwd, settings=settings)
    assert done.returncode == code, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, f"more than one line: {done.stderr}"
    return done.stderr


class Service:
    """`run.py` serving, with JSON logs."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has logged so far; a line that is still being written is left out."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def port(self) -> int:
        """Where the API is served."""
        return int(urlsplit(str(self.logged("serving")["http"])).port or 0)

    def logged(self, event: str, within_s: float = 30) -> dict[str, Any]:
        """Waits for an event; its entry."""

        def found() -> list[dict[str, Any]]:
            assert self.process.poll() is None or event == "stopped", self._log.read_text(encoding="utf-8")
            return [entry for entry in self.events if entry["event"] == event]

        eventually(lambda: bool(found()), f"{event} is logged", within_s)
        return found()[0]

    def end(self, how: signal.Signals, within_s: float = 5.0) -> int:
        """Sends a signal; the exit code. Fails when the process is still there after `within_s`."""
        self.process.send_signal(how)
        return self.process.wait(within_s)


@contextmanager
def serving(log: Path, url: str | None = None, cwd: Path | None = None, **settings: str) -> Iterator[Service]:
    """The service, once it says that it serves; killed after the block if it is still there."""
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
