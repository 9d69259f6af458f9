"""The stores that are measured, each with the programs that it needs, in databases and folders made for it."""

import base64
import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from socket import create_connection

import psutil
import psycopg
from msgspec import Struct

from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.schema import MIGRATIONS
from rig.postgres_server import database_on
from rig.program import new_token, run, serving_database
from rig.relay import free_port
from rig.waiting import eventually

KEYS_PER_INSERT = 100
"""Keys in one INSERT of the legacy adapter, as the original operator's bots had it; more are faster, fewer slower."""

LEGACY_FILES = ("20251007_create_whatsapp_auth_tables.sql", "20251008_optimize_whatsapp_keys.sql")
"""The migrations that make the original operator's tables, with their indexes and their trigger."""

OUR_CONNECTIONS, LIMIT_CONNECTIONS, LEGACY_CONNECTIONS = 2, 8, 10
"""The connections to Postgres that all accounts of a process share; the last is the default of `pg`."""

START_TIMEOUT_S, STOP_TIMEOUT_S = 20.0, 10.0


class Store(Struct, frozen=True):
    """A store as a bot reaches it: its kind and address in the Node program, and the ids of its own programs.

    `database_url` is the address for the store's Python side, where that can write what the bot reads.
    """

    kind: str
    address: Mapping[str, object]
    service: int | None = None
    database: int | None = None
    database_url: str | None = None


Opener = Callable[[ExitStack, str, Sequence[str]], Store]
"""Opens a store until the stack is closed, on the Postgres server at an address, for these companies."""


def _straight(stack: ExitStack, server: str, companies: Sequence[str]) -> Store:
    url, login = with_login(stack, server, companies, "straight")
    return Store("keystore", _connected(login), database=_postgres(server), database_url=url)


def _straight_sealed(stack: ExitStack, server: str, companies: Sequence[str]) -> Store:
    _, login = with_login(stack, server, companies, "sealed")
    secret_key = base64.b64encode(secrets.token_bytes(32)).decode()
    return Store("keystore", {**_connected(login), "secretKey": secret_key}, database=_postgres(server))


def _connected(url: str) -> dict[str, object]:
    return {"url": url, "connections": OUR_CONNECTIONS}


def with_login(stack: ExitStack, server: str, companies: Sequence[str], name: str) -> tuple[str, str]:
    """Make a database, and a login of a bot for these companies. Return both addresses."""
    url, login = _migrated(stack, server, name), f"bot_seat_{name}"
    options = [word for company in companies for word in ("--company", company)]
    done = run("role", "create", "--login", login, *options, "--json", url=url)
    if done.returncode:
        raise KeystoreError(f"no login was made: {done.stderr.strip()}")
    stack.callback(run, "role", "revoke", login, url=url)
    return url, json.loads(done.stdout)["address"]


def _http(stack: ExitStack, server: str, _companies: Sequence[str]) -> Store:
    return served(stack, _migrated(stack, server, "http"), _postgres(server))


def _http_sqlite(stack: ExitStack, _server: str, _companies: Sequence[str]) -> Store:
    url = f"sqlite:///{_folder(stack)}/keystore.db"
    open_store(url).close()
    return served(stack, url, None)


def served(stack: ExitStack, url: str, database: int | None) -> Store:
    """Serve the database with one worker. Its programs are the service's, for SQLite all of them."""
    service = stack.enter_context(serving_database(url, KEYSTORE_HTTP_RATE="off"))
    address = {**_connected(service.url), "token": new_token(url)}
    return Store("keystore", address, service.process.pid, database, database_url=url)


def _adapter(stack: ExitStack, server: str, _companies: Sequence[str]) -> Store:
    url = stack.enter_context(database_on(server, "bench_seat_adapter"))
    return legacy(url, database=_postgres(server))


def _limit(stack: ExitStack, server: str, _companies: Sequence[str]) -> Store:
    address = {"url": _migrated(stack, server, "limit"), "connections": LIMIT_CONNECTIONS}
    return Store("limit", address, database=_postgres(server))


def _files(stack: ExitStack, _server: str, _companies: Sequence[str]) -> Store:
    return files(_folder(stack))


def _redis(appendfsync: str, stack: ExitStack, _server: str, _companies: Sequence[str]) -> Store:
    program = shutil.which("redis-server")
    assert program is not None
    process, port = stack.enter_context(_redis_server(program, _folder(stack), appendfsync))
    return Store("redis", {"url": f"redis://127.0.0.1:{port}"}, database=process.pid)


OPENERS: dict[str, Opener] = {
    "straight": _straight,
    "straight_sealed": _straight_sealed,
    "http": _http,
    "http_sqlite": _http_sqlite,
    "adapter": _adapter,
    "limit": _limit,
    "files": _files,
    "redis_always": partial(_redis, "always"),
    "redis_everysec": partial(_redis, "everysec"),
}
"""The stores by name, in the order of the tables."""


def missing() -> dict[str, str]:
    """The stores that can't be measured on this machine, each with the reason."""
    if shutil.which("redis-server"):
        return {}
    reason = "no redis-server here (Debian: apt-get install redis-server)"
    return dict.fromkeys(("redis_always", "redis_everysec"), reason)


@contextmanager
def opened(server: str, companies: Sequence[str]) -> Iterator[dict[str, Store]]:
    """Open every store that this machine has for the block. Raises KeystoreError."""
    absent = missing()
    with ExitStack() as stack:
        yield {name: opener(stack, server, companies) for name, opener in OPENERS.items() if name not in absent}


def legacy(url: str, keys_per_insert: int = KEYS_PER_INSERT, database: int | None = None) -> Store:
    """Make the original operator's tables in the database at `url`, and return the legacy adapter's store."""
    with psycopg.connect(url) as conn:
        for file in LEGACY_FILES:
            conn.execute((MIGRATIONS / "postgres" / file).read_bytes())
    address = {"url": url, "connections": LEGACY_CONNECTIONS, "keys_per_insert": keys_per_insert}
    return Store("legacy", address, database=database)


def files(folder: Path) -> Store:
    """The store of Baileys' own files in this folder."""
    return Store("files", {"folder": str(folder)})


def _migrated(stack: ExitStack, server: str, name: str) -> str:
    """Make a database with the store's tables, and return its address."""
    url = stack.enter_context(database_on(server, f"bench_seat_{name}"))
    open_store(url).close()
    return url


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keystore-seat-")))


def _postgres(server: str) -> int | None:
    """The id of the server's first process; None on another machine."""
    with psycopg.connect(server) as conn, suppress(psutil.NoSuchProcess):
        return psutil.Process(conn.info.backend_pid).ppid()
    return None


@contextmanager
def _redis_server(program: str, folder: Path, appendfsync: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run Redis with its append-only file in this folder for the block."""
    port = free_port()
    where = ("--bind", "127.0.0.1", "--port", str(port), "--dir", folder)
    durable = ("--save", "", "--appendonly", "yes", "--appendfsync", appendfsync)
    process = subprocess.Popen([program, *where, *durable], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def accepts_connections() -> bool:
        if process.poll() is not None:
            raise KeystoreError(f"redis-server ended with code {process.returncode}")
        with suppress(OSError):
            create_connection(("127.0.0.1", port), 1.0).close()
            return True
        return False

    try:
        eventually(accepts_connections, "redis-server accepts connections", START_TIMEOUT_S)
        yield process, port
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)
