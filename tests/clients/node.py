"""Node's side of the tests: the client built and installed beside each Baileys, and accounts in processes we drive.

Nothing is installed twice: what an installation was made of is written beside it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from rig.paths import PROJECT

CLIENT = PROJECT / "clients" / "baileys"
ACCOUNT = Path(__file__).parent / "account.mjs"
OLDEST_NODE = 20
INSTALL_TIMEOUT_S = 240.0
ANSWER_TIMEOUT_S = 90.0

STAMP = ".installed-from"

NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


class DeviceError(Exception):
    """What a device answered instead."""


def need_node() -> None:
    """Skips where there is no Node that is new enough."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node and npm aren't installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node {version.strip()} is older than {OLDEST_NODE}")


def npm(folder: Path, *args: str) -> str:
    """Runs npm; what it printed."""
    done = subprocess.run(
        ["npm", "--no-audit", "--no-fund", "--no-update-notifier", *args],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode and args[0] in ("ci", "install") and any(code in done.stderr for code in NO_NETWORK):
        pytest.skip("npm can't reach its registry")
    assert done.returncode == 0, f"npm {' '.join(args)} in {folder}: {done.stdout}{done.stderr}"
    return done.stdout


def built_client() -> Path:
    """The client, built from its sources."""
    sources = [CLIENT / "package.json", CLIENT / "package-lock.json", CLIENT / "tsconfig.json"]
    sources += sorted((CLIENT / "src").iterdir())
    if _is_stale(CLIENT / "node_modules", sources) or not (CLIENT / "dist").exists():
        npm(CLIENT, "ci", "--ignore-scripts")
        shutil.rmtree(CLIENT / "dist", ignore_errors=True)
        npm(CLIENT, "run", "build")
        _write_stamp(CLIENT / "node_modules", sources)
    return CLIENT


def bot_folder(baileys: str) -> Path:
    """A folder with this major version of Baileys, and our client installed as a bot's author would."""
    client = built_client()
    folder = CLIENT / "peers" / f"baileys-{baileys}"
    sources = [folder / "package.json", folder / "package-lock.json", *sorted((client / "dist").iterdir())]
    if _is_stale(folder / "node_modules", sources):
        packed = client / npm(client, "pack").strip().splitlines()[-1]
        npm(folder, "ci", "--ignore-scripts")
        npm(folder, "install", "--no-save", "--ignore-scripts", str(packed))
        packed.unlink()
        _write_stamp(folder / "node_modules", sources)
    return folder


def _is_stale(installed: Path, sources: Iterable[Path]) -> bool:
    stamp = installed / STAMP
    return not stamp.exists() or stamp.read_text(encoding="ascii") != _hash(sources)


def _write_stamp(installed: Path, sources: Iterable[Path]) -> None:
    (installed / STAMP).write_text(_hash(sources), encoding="ascii")


def _hash(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Accounts:
    """A Node process with the devices of one or more WhatsApp accounts."""

    def __init__(self, folder: Path, token: str = "") -> None:
        """The token goes through the environment, as a bot's would."""
        self._process = subprocess.Popen(
            ["node", str(ACCOUNT)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "TOKEN": token},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,  # pytest shows it where a test fails; libsignal's own talk is silenced.
            text=True,
            bufsize=1,
        )
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="accounts", daemon=True)
        self._reader.start()

    def ask(self, device: str, what: str, **given: Any) -> Future[Any]:
        """Tells a device to do something; its answer to come. Raises DeviceError there when it can't."""
        assert self._process.stdin is not None
        with self._lock:
            number = next(self._numbers)
            answer = self._waiting[number] = Future()
            self._process.stdin.write(json.dumps({"id": number, "as": device, "do": what, **given}) + "\n")
        return answer

    def do(self, device: str, what: str, **given: Any) -> Any:
        """Tells a device to do something, and waits for its answer."""
        return self.ask(device, what, **given).result(ANSWER_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL: it has no chance to save anything. What wasn't answered never will be."""
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break
            told = json.loads(line)
            answer = self._waiting.pop(told["id"])
            if "error" in told:
                answer.set_exception(DeviceError(told["error"]))
            else:
                answer.set_result(told["ok"])
        for answer in self._waiting.values():
            answer.cancel()
