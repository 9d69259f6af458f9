"""WhatsApp accounts in a Node process that a test drives."""

import json
import os
import subprocess
import threading
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ACCOUNTS = Path(__file__).parent / "accounts.mjs"
ANSWER_TIMEOUT_S = 90.0


class DeviceError(Exception):
    """A device's answer that is an error."""


class Accounts:
    """A Node process with the devices of one or more WhatsApp accounts."""

    def __init__(self, folder: Path, token: str = "") -> None:
        """Start the process in a bot's folder. The token goes through the environment, as a bot's would."""
        self._process = subprocess.Popen(
            ["node", str(ACCOUNTS)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "TOKEN": token},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,  # pytest shows it if a test fails; libsignal's own output is silenced.
            text=True,
            bufsize=1,
        )
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="accounts", daemon=True)
        self._reader.start()

    def ask(self, device: str, action: str, **options: Any) -> Future[Any]:
        """Request an action of a device. The future has its answer, or a DeviceError if the action fails."""
        assert self._process.stdin is not None
        with self._lock:
            number = next(self._numbers)
            answer = self._waiting[number] = Future()
            self._process.stdin.write(json.dumps({"id": number, "as": device, "do": action, **options}) + "\n")
        return answer

    def do(self, device: str, action: str, **options: Any) -> Any:
        """Request an action of a device, and wait for its answer."""
        return self.ask(device, action, **options).result(ANSWER_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the process with SIGKILL, so that it can't save anything. Open requests are cancelled."""
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
            message = json.loads(line)
            answer = self._waiting.pop(message["id"])
            if "error" in message:
                answer.set_exception(DeviceError(message["error"]))
            else:
                answer.set_result(message["ok"])
        for answer in self._waiting.values():
            answer.cancel()
