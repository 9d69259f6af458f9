"""Runs the Node program `peers.mjs`: installs its packages, starts it, and sends it one request at a time.

A request names an act of the program, such as `set` or `load`.
"""

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
LOCK_FILE, INSTALLED_LOCK_FILE = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"

INSTALL_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class Answer(msgspec.Struct):
    """The program's answer to a request: the fields that the act returns, or the error."""

    error: str | None = None
    ms: list[float] = []
    """The milliseconds that each run of the act took."""
    keys: int = 0
    digest: str = ""
    """A hash of the keys. Equal keys have equal hashes."""
    node: str = ""
    """The version of Node.js; the two below are those of its packages `baileys` and `pg`."""
    baileys: str = ""
    pg: str = ""


class Node:
    """A running process of `peers.mjs`."""

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
        """Return the error of a program that ended before it answered."""
        code = self._process.wait(STOP_TIMEOUT_S)
        return KeystoreError(f"the peers' program ended with code {code}; `node {HERE / 'peers.mjs'}` says why")


def node_and_npm() -> tuple[str, str] | None:
    """Return the paths of the programs `node` and `npm`; None if either is absent."""
    node, npm = shutil.which("node"), shutil.which("npm")
    return None if node is None or npm is None else (node, npm)


def install(npm: str) -> None:
    """Install the packages of `package-lock.json` unless they are installed already.

    None of the packages' scripts runs. Raises KeystoreError if npm fails.
    """
    if INSTALLED_LOCK_FILE.exists() and INSTALLED_LOCK_FILE.stat().st_mtime >= LOCK_FILE.stat().st_mtime:
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
    """Start the program for a block of code, and kill it afterwards."""
    process = subprocess.Popen(
        [node, HERE / "peers.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )
    with process:
        try:
            yield Node(process)
        finally:
            process.kill()
