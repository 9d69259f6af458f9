"""Runs `seat.mjs`, a bot's process: installs its packages, starts it, and sends it one request at a time.

A request names an act of the program, such as `set` or `connect`.
"""

import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.seat.stores import Store
from keystore.errors import KeystoreError
from rig.npm import NpmError, installed_with_client, need_node

HERE = Path(__file__).parent
PROGRAM = HERE / "seat.mjs"

ANSWER_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0

Texts = Mapping[str, Mapping[str, str]]
"""Keys as the program takes them: `{type: {id: JSON}}`."""


class Answer(msgspec.Struct):
    """The program's answer to a request: the fields that the act returns, or the error."""

    error: str | None = None
    ms: list[float] = []
    """The milliseconds that each run of the act took."""
    opened_ms: list[float] = []
    """The milliseconds until the state was open, before its keys were read."""
    messages: int = 0
    """The number of messages whose writes are durable."""
    bytes: int = 0
    """The memory of the accounts that the act opened."""
    keys: int = 0
    digest: str = ""
    """A hash of the keys. Equal keys have equal hashes."""
    node: str = ""
    """The version of Node.js; the two below are those of its packages `baileys` and `pg`."""
    baileys: str = ""
    pg: str = ""


class Bot:
    """A running process of `seat.mjs`, on one store."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.versions = Answer()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, act: str, **request: object) -> Answer:
        """Run the act and return its answer. Raises KeystoreError if it fails or takes more than a minute."""
        try:
            self._stdin.write(msgspec.json.encode({"act": act, **request}) + b"\n")
            self._stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        readable, _, _ = select.select([self._stdout], [], [], ANSWER_TIMEOUT_S)
        if not readable:
            raise KeystoreError(f"the bot's program gave no answer to {act!r} within {ANSWER_TIMEOUT_S:g} s")
        line = self._stdout.readline()
        if not line:
            raise self._ended()
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error is not None:
            raise KeystoreError(f"the bot's program can't do {act!r}: {answer.error}")
        return answer

    def _ended(self) -> KeystoreError:
        """Return the error of a program that ended before it answered."""
        code = self._process.wait(STOP_TIMEOUT_S)
        return KeystoreError(f"the bot's program ended with code {code}; `node {PROGRAM}` says why")


def as_texts(keys: Mapping[str, Mapping[str, bytes]]) -> Texts:
    """The same keys with each value's JSON as a text."""
    return {key_type: {key_id: value.decode() for key_id, value in by_id.items()} for key_type, by_id in keys.items()}


def node_with_packages() -> str | None:
    """The path of Node, once the program's packages are installed; None if Node or npm is absent or too old.

    None of the packages' scripts runs. Raises KeystoreError if npm fails.
    """
    try:
        need_node()
    except NpmError:
        return None
    if not (HERE / "node_modules").exists():
        print("installing the packages of bench/seat with npm …", file=sys.stderr)
    try:
        installed_with_client(HERE)
    except NpmError as error:
        raise KeystoreError(f"the packages of bench/seat can't be installed: {error}") from error
    return shutil.which("node")


@contextmanager
def started(node: str, store: Store) -> Iterator[Bot]:
    """Start the program on a store for a block of code, and kill it afterwards."""
    process = subprocess.Popen(
        [node, "--expose-gc", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    with process:
        try:
            bot = Bot(process)
            bot.versions = bot.ask("open", kind=store.kind, **store.address)
            yield bot
        finally:
            process.kill()
