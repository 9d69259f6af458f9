"""WhatsApp accounts in a Node process that a test drives."""

import json
import threading
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any

from tests.clients.node_process import NodeProcess

ACCOUNTS = Path(__file__).parent / "accounts.mjs"
ANSWER_TIMEOUT_S = 90.0


class DeviceError(Exception):
    """A device's answer that is an error."""


class Accounts(NodeProcess):
    """A Node process with the devices of one or more WhatsApp accounts. When it ends, open requests are cancelled."""

    def __init__(self, folder: Path, token: str = "") -> None:
        """Start the process in a bot's folder."""
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        super().__init__(folder, ACCOUNTS, TOKEN=token)

    def ask(self, device: str, action: str, **options: Any) -> Future[Any]:
        """Request an action of a device. The future has its answer, or a DeviceError if the action fails."""
        with self._lock:
            number = next(self._numbers)
            answer = self._waiting[number] = Future()
            self._say(json.dumps({"id": number, "as": device, "do": action, **options}))
        return answer

    def do(self, device: str, action: str, **options: Any) -> Any:
        """Request an action of a device, and wait for its answer."""
        return self.ask(device, action, **options).result(ANSWER_TIMEOUT_S)

    def _receive(self, message: dict[str, Any]) -> None:
        answer = self._waiting.pop(message["id"])
        if "error" in message:
            answer.set_exception(DeviceError(message["error"]))
        else:
            answer.set_result(message["ok"])

    def _read(self) -> None:
        super()._read()
        for answer in self._waiting.values():
            answer.cancel()
