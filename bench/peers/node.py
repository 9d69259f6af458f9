"""The Node program `peers.mjs`: installs its packages, starts it, and asks it one question at a time."""

import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from keystore.errors import KeystoreError

HERE = Path(__file__).parent
LOCK, INSTALLED = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"

INSTALL_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class Answer(msgspec.Struct):
    """An answer of the program: the fields that its act gives, or the error."""

    error: str | None = None
    ms: list[float] = []
    """The time of each run of the act."""
    keys: int = 0
    digest: str = ""
    """A hash that is the same for equal keys."""
    node: str = ""
    baileys: str = ""
    pg: str = ""


class Node:
    """One process of `peers.mjs`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def ask(self, act: str, **request: object) -> Answer:
        """Run the act and return its answer. Raises KeystoreError if it fails or takes more than a minute."""
        try:
            self._stdin.write(msgspec.json.encode({"act": act, **request}) + b"\n")
            self._stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        readable, _, _ = select.select([self._stdout], [], [], ANSWER_TIMEOUT_S)
        if not readable:
            raise KeystoreError(f"the peers gave no answer to {act!r} within {ANSWER_TIMEOUT_S:g} s")
        line = self._stdout.readline()
        if not line:
            raise self._ended()
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error is not None:
            raise KeystoreError(f"the peers can't do {act!r}: {answer.error}")
        return answer

    def _ended(self) -> KeystoreError:
        code = self._process.wait(STOP_TIMEOUT_S)
        return KeystoreError(f"the peers' program ended with code {code}; `node {HERE / 'peers.mjs'}` says why")


def node_and_npm() -> tuple[str, str] | None:
    """The paths of the two programs; None if one is absent."""
    node, npm = shutil.which("node"), shutil.which("npm")
    return None if node is None or npm is None else (node, npm)


def install(npm: str) -> None:
    """Install the packages of `package-lock.json`, unless they are, and run no scripts. Raises KeystoreError."""
    if INSTALLED.exists() and INSTALLED.stat().st_mtime >= LOCK.stat().st_mtime:
        return
    print("installing the peers' packages with npm …", file=sys.stderr)
    command = [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        npm_run = subprocess.run(command, cwd=HERE, capture_output=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise KeystoreError(f"npm took more than {INSTALL_TIMEOUT_S:g} s to install the peers' packages") from error
    if npm_run.returncode:
        raise KeystoreError(f"npm can't install the peers' packages: `cd {HERE} && npm ci --ignore-scripts` says why")


@contextmanager
def started(node: str) -> Iterator[Node]:
    """The running program, which is ended after the block."""
    process = subprocess.Popen(
        [node, HERE / "peers.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )
    with process:
        try:
            yield Node(process)
        finally:
            process.kill()
