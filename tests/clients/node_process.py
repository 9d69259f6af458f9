"""A Node program that a test drives: a line of JSON is a request, or what the program says."""

import json
import os
import subprocess
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class NodeProcess(ABC):
    """A running Node program. A thread reads its lines until it ends."""

    def __init__(self, folder: Path, program: Path, **environment: str) -> None:
        """Start the program in a bot's folder. Secrets go through the environment, as a bot's would."""
        self._process = subprocess.Popen(
            ["node", str(program)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,  # pytest shows it if a test fails; libsignal's own output is silenced.
            text=True,
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, name=program.stem, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the process with SIGKILL, so that it can't save anything."""
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)

    @abstractmethod
    def _receive(self, message: dict[str, Any]) -> None:
        """Take a line of the program; called in the reader's thread."""

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break
            self._receive(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
