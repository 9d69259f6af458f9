"""Malformed inputs of every kind that a stranger or a mistake can bring: no crash, no hang, and nothing half-written.

Each input is a good one that was changed in a few places. Every seed gives the same inputs again.
"""

import json
import shutil
import socket
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from keystore import InvalidInput, KeystoreError, Store, open_store
from keystore.ids import canonical_company, checked_name
from keystore.postgres.address import read_address
from keystore.postgres.link import _libpq_parameters, _parse_address
from keystore.sealing.sealed_form import SealingKey, full_name
from keystore.sealing.secret_keys import parse_secret_keys
from keystore.ttl import parse_duration, parse_policy
from keystore.values.fitting import fitted
from monitor.telegram.updates import read_update
from monitor.transfer.archive_format import ArchiveFile
from monitor.transfer.readers.recognition import source_at
from monitor.transfer.transfer import export_state, import_state
from rig.baileys_state import real_creds, real_keys
from rig.program import serving
from rig.relay import free_port
from settings import read_settings
from tests.acceptance.in_process import run_json
from tests.monitor.transfer.folders import write_folder
from tests.monitor.transfer.readers import dumps

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1_800)]

SLOWEST_S = 5.0
"""Limit of the time that one input may take."""

NOT_WHOLE_AFTER_S = 0.1
"""Time after which an HTTP request without an answer counts as one that isn't whole."""

ODD = ("\0", "\x7f", "\ud83d", "￿", "é", "１", "%00", "../", "'", '"', "\\", "\n", "9" * 400, "-1", "NaN", "[" * 50)
ODD_BYTES = tuple(text.encode("utf-8", "surrogatepass") for text in ODD)


def changed_text(random: Random, text: str) -> str:
    """Change a text in one to three places."""
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice((0, 1, 1, 4)))
        text = text[:start] + random.choice((*ODD, "", chr(random.randrange(0x250)))) + text[end:]
    return text


def changed_bytes(random: Random, data: bytes) -> bytes:
    """Flip bits of some bytes, cut some out, double some, or cut off the end."""
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(data) or 1)
        end = start + random.choice((1, 1, 2, 30))
        middle = data[start:end]
        middle = random.choice((bytes(byte ^ 1 << random.randrange(8) for byte in middle), b"", middle * 2))
        data = data[:start] + random.choice((middle, random.choice(ODD_BYTES))) + data[end:]
    return data[: random.randrange(len(data) or 1)] if random.random() < 0.1 else data


def tried(name: str, inputs: int, attempt: Callable[[Random], bool]) -> int:
    """Try this many inputs, and return the number of those that were taken.

    An attempt returns True if its input was taken, and raises KeystoreError if it was refused.
    """
    taken = refused = clear = 0
    slowest_s = 0.0
    for seed in range(inputs):
        began = monotonic()
        try:
            taken += attempt(Random(seed))
        except KeystoreError as error:
            refused += 1
            clear += bool(str(error))
        except Exception as error:
            error.add_note(f"{name}, seed {seed}")
            raise
        slowest_s = max(slowest_s, monotonic() - began)
    assert slowest_s < SLOWEST_S
    assert clear == refused, "a refusal says nothing"
    sys.stdout.write(f"\nmalformed {name}: {inputs:,} inputs, {refused:,} refused, {taken:,} taken, no crash\n")
    return taken


KEY, OTHER_KEY = (b64encode(bytes(range(first, first + 32))).decode() for first in (0, 100))

TEXTS: dict[str, tuple[int, tuple[str, ...], Callable[[str], object]]] = {
    "ids": (20_000, ("962302", "company_7", "acme-1", "4915@s.whatsapp.net"), canonical_company),
    "names": (10_000, ("4917011111111.0", "1203@g.us::49::0"), lambda text: checked_name("key_id", text)),
    "policies": (10_000, ("session=7d, *token=12h, default=24h", "careful", "diary,x=1m"), parse_policy),
    "durations": (5_000, ("7d", "12h", "15m", "90"), parse_duration),
    "secret keys": (10_000, (KEY, f"{KEY}\n{OTHER_KEY}"), parse_secret_keys),
    "addresses": (
        15_000,
        (
            "postgresql://user:secret@db.example:5432/bots?sslmode=require&connect_timeout=5",
            "postgresql:///a?host=/tmp",
        ),
        lambda text: read_address(text, _libpq_parameters(), _parse_address),
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    inputs, good, parse = TEXTS[name]

    def attempt(random: Random) -> bool:
        parse(changed_text(random, random.choice(good)))
        return True

    tried(name, inputs, attempt)


SETTINGS = {
    "KEYSTORE_URL": "sqlite:///k.db",
    "KEYSTORE_TTL": "careful",
    "KEYSTORE_SWEEP_EVERY": "6h",
    "KEYSTORE_HTTP": "127.0.0.1:8080",
    "KEYSTORE_HTTP_WORKERS": "2",
    "KEYSTORE_TIMEZONE": "Europe/Berlin",
    "KEYSTORE_TRASH": "30d",
    "TELEGRAM_CHAT_ID": "-100123,55:7",
}


def test_settings() -> None:
    def attempt(random: Random) -> bool:
        name = random.choice(list(SETTINGS))
        return bool(read_settings({**SETTINGS, name: changed_text(random, SETTINGS[name])}, ()))

    tried("settings", 5_000, attempt)


def test_updates_of_telegram() -> None:
    text = {"text": "/sweep@ourbot now", "date": 1, "chat": {"id": -100, "type": "group"}, "from": {"id": 7}}
    press = {"id": "1", "data": "sweep:1", "message": text, "from": {"id": 7}}
    contents = {"message": text, "callback_query": press}
    good = [json.dumps({"update_id": 1, kind: content}) for kind, content in contents.items()]

    def attempt(random: Random) -> bool:
        try:
            update = json.loads(changed_text(random, random.choice(good)))
        except ValueError as error:
            raise InvalidInput("no JSON") from error
        return read_update(update, "ourbot") is not None

    tried("updates of Telegram", 20_000, attempt)


def test_values() -> None:
    good = [(kind, key_id, value) for kind, by_id in real_keys().items() for key_id, value in list(by_id.items())[:5]]

    def attempt(random: Random) -> bool:
        kind, key_id, value = random.choice(good)
        return bool(fitted((kind, key_id), changed_bytes(random, value)).value)

    tried("values", 10_000, attempt)


def test_sealed_values() -> None:
    key = SealingKey(bytes(range(32)))
    name = full_name("1", "session", "a")
    sealed = key.seal(b"the value", name)

    def attempt(random: Random) -> bool:
        changed = changed_bytes(random, sealed)
        return changed != sealed and bool(key.open(changed, name))

    assert key.open(sealed, name) == b"the value"
    assert tried("sealed values", 10_000, attempt) == 0


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small good sources of each kind: an archive, a folder, and the dumps of other programs."""
    folder = tmp_path_factory.mktemp("sources")
    keys = {kind: dict(list(by_id.items())[:2]) for kind, by_id in real_keys().items()}
    with open_store(f"sqlite:///{folder}/k.db") as store:
        store.set("1", keys, real_creds())
        export_state(store, "1", ArchiveFile(folder / "archive.jsonl"))
    write_folder(folder / "folder", keys, real_creds())
    made = {"archive": folder / "archive.jsonl", "folder": folder / "folder"}
    for name, makers in dumps.WHOLE_STATES.items():
        for make in makers:
            path = folder / f"{name}-{make.__name__}"
            make(path)
            if path.is_file():
                made[path.name] = path
    return made


def test_archives_folders_and_dumps(sources: dict[str, Path], tmp_path: Path) -> None:
    names = list(sources)

    def attempt(random: Random) -> bool:
        name = random.choice((*["archive", "folder"] * 8, *names))
        source = sources[name]
        target = tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
            file = random.choice(sorted(source.iterdir()))
            (target / file.name).write_bytes(changed_bytes(random, file.read_bytes()))
        else:
            target.write_bytes(changed_bytes(random, source.read_bytes()))
        try:
            return imported(store, target)
        finally:
            store.clear("1")

    with open_store(f"sqlite:///{tmp_path}/k.db", trash_s=0) as store:
        tried("archives, folders and dumps", 2_000, attempt)


def imported(store: Store, path: Path) -> bool:
    """Import into an empty company. Raises KeystoreError if it is refused; then nothing was written."""
    try:
        report = import_state(store, "1", source_at(path))
    except KeystoreError:
        assert store.load("1").total == 0, "half of it was written"
        assert store.get_creds("1") is None
        raise
    assert store.load("1").total == report.keys == report.verified
    return True


def test_http(tmp_path: Path) -> None:
    port = free_port()
    url = f"sqlite:///{tmp_path}/k.db"
    log = tmp_path / "log"
    with serving(log, url, cwd=tmp_path, KEYSTORE_HTTP=f"127.0.0.1:{port}", KEYSTORE_HTTP_RATE="1e6"):
        token = run_json("token", "create", "--company", "1", url=url)["token"]
        good = list(requests(token))

        def attempt(random: Random) -> bool:
            status = answer_to(port, changed_bytes(random, random.choice(good)), NOT_WHOLE_AFTER_S)
            assert status < 500, status
            if status >= 400 or status == 0:
                raise InvalidInput(f"status {status}")
            return True

        tried("HTTP requests", 5_000, attempt)
        for request in good:
            assert answer_to(port, request) < 300
    text = log.read_text(encoding="utf-8")
    assert "request_failed" not in text
    assert "Traceback" not in text
    assert "worker_died" not in text


def requests(token: str) -> Iterator[bytes]:
    """Good requests of a bot."""
    state = {"creds": {"a": 1}, "keys": {"session": {"a": {"x": 1}, "b": None}}}
    bodies = (
        ("POST", "state", state),
        ("POST", "keys", state["keys"]),
        ("POST", "keys/get", {"type": "session", "ids": ["a"]}),
        ("POST", "keys/used", {"session": ["a"]}),
        ("PUT", "creds", {"a": 1}),
        ("GET", "state", None),
    )
    for method, path, document in bodies:
        body = b"" if document is None else json.dumps(document).encode()
        head = f"{method} /v1/companies/1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        yield head.encode() + body


def answer_to(port: int, request: bytes, timeout_s: float = SLOWEST_S) -> int:
    """Send a request and return the answer's status; 0 if there is none in time, because the request isn't whole."""
    with socket.create_connection(("127.0.0.1", port), SLOWEST_S) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.sendall(request)
            answer = connection.recv(64)
        except (ConnectionError, TimeoutError):
            return 0
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
