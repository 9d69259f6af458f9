"""`run.py` as an operator starts it, for measurements: on a port of its own, its log in a file."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from keystore.errors import KeystoreError
from rig.paths import PROJECT

RUN = PROJECT / "run.py"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True)
class Service:
    """A running service: its process id, and where its API is."""

    pid: int
    url: str


@contextmanager
def serving(url: str, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Serves the database at `url` for the block. Raises KeystoreError, without the address."""
    environment = {"PATH": os.defpath, "KEYSTORE_URL": url, "KEYSTORE_LOG": "json", "KEYSTORE_HTTP": "127.0.0.1:0"}
    with tempfile.TemporaryDirectory(prefix="keystore-service-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, RUN],
                env={**environment, **(settings or {})},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )
        try:
            yield Service(process.pid, _served_at(process, log))
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def new_token(url: str, company: str | None = None) -> str:
    """A token for the company in the database at `url`, an admin's without one. Raises KeystoreError."""
    whose = ["--admin"] if company is None else ["--company", company]
    made = subprocess.run(
        [sys.executable, RUN, "token", "create", *whose, "--json"],
        env={"PATH": os.defpath, "KEYSTORE_URL": url},
        capture_output=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if made.returncode:
        raise KeystoreError(f"no token was made: {made.stderr.decode().strip()}")
    return str(json.loads(made.stdout)["token"])


def _served_at(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up_at = monotonic() + START_TIMEOUT_S
    while True:
        entries = [_entry(line) for line in log.read_text(encoding="utf-8").splitlines()]
        for entry in entries:
            if entry.get("event") == "serving":
                return str(entry["http"])
        if process.poll() is not None or monotonic() > give_up_at:
            raise KeystoreError(f"run.py didn't start; try it: {RUN}")
        sleep(POLL_S)


def _entry(line: str) -> dict[str, Any]:
    """A line of the log; one that is still being written is nothing yet."""
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return entry
