"""Dumps of the real state, written here by hand after the sources of the programs that leave such files.

`tests/clients/test_adapters.py` makes the same dumps with the packages themselves, where npm has them.
"""

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from rig.baileys_state import real_creds, real_keys
from tests.keystore.value_forms import BUFFER_FORMS, with_buffers

BAILEYS_SQLITE = """
CREATE TABLE creds (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE signal_keys (type TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (type, id));
"""
"""The tables of Baileys' pull request 2575."""


def keys() -> Iterator[tuple[str, str, str]]:
    """The type, id and JSON text of each real key."""
    for key_type, by_id in real_keys().items():
        for key_id, value in by_id.items():
            yield key_type, key_id, value.decode()


def named(prefix: str = "", creds: str = "creds") -> dict[str, str]:
    """The JSON text of the creds and of each key, by the name that adapters give it."""
    return {f"{prefix}{creds}": real_creds().decode()} | {f"{prefix}{kind}-{name}": text for kind, name, text in keys()}


def fixed(name: str) -> str:
    """A name as `fixFileName` leaves it."""
    return name.replace("/", "__").replace(":", "-")


def lines(rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> str:
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def csv_text(names: list[str], rows: list[list[str]], **dialect: Any) -> str:
    """CSV under a line of names."""
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows([names, *rows])
    return text.getvalue()


def baileys_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executescript(BAILEYS_SQLITE)
        conn.execute("INSERT INTO creds VALUES ('__creds__', ?)", (real_creds().decode(),))
        conn.executemany("INSERT INTO signal_keys VALUES (?, ?, ?)", list(keys()))


def single_file(path: Path) -> None:
    """`useSingleFileAuthState` of Baileys 4, with its names of six types."""
    names = {"pre-key": "preKeys", "session": "sessions", "sender-key": "senderKeys"}
    names |= {"app-state-sync-key": "appStateSyncKeys", "app-state-sync-version": "appStateVersions"}
    names |= {"sender-key-memory": "senderKeyMemory"}
    by_type = {
        names.get(kind, kind): {k: json.loads(v) for k, v in by_id.items()} for kind, by_id in real_keys().items()
    }
    path.write_text(json.dumps({"creds": json.loads(real_creds()), "keys": by_type}, indent=2), encoding="utf-8")


def redis_object(path: Path) -> None:
    path.write_text(json.dumps(named("bot-1:")), encoding="utf-8")


def redis_lines(path: Path) -> None:
    """redis-dump's lines, among which is somebody else's key."""
    rows = [
        {"db": 0, "key": key, "ttl": -1, "type": "string", "value": value, "size": len(value)}
        for key, value in [*named("session-7:").items(), ("queue:1", "x")]
    ]
    path.write_text(lines(rows), encoding="utf-8")


def redis_hash_in_lines(path: Path) -> None:
    """baileys-redis-auth's HSet: one hash, named `auth` behind the session."""
    path.write_text(lines([{"key": "bot-1:auth", "type": "hash", "ttl": -1, "value": named()}]), encoding="utf-8")


def redis_csv_hash(path: Path) -> None:
    """`redis-cli --csv HGETALL`, with redis-cli's escapes."""
    escaped = (item.replace("\\", "\\\\").replace('"', '\\"') for pair in named().items() for item in pair)
    path.write_text(",".join(f'"{item}"' for item in escaped) + "\n", encoding="utf-8")


def redis_plain_hash(path: Path) -> None:
    """`redis-cli HGETALL` into a file."""
    path.write_text("".join(f"{item}\n" for pair in named().items() for item in pair), encoding="utf-8")


def mongo_spread(path: Path) -> None:
    """mongo-baileys: a document's `_id` is the key's name, and its fields are the value's; Buffers are $binary.

    Such a document can hold only objects; the other values are put into a field, as its copies do.
    """
    rows = []
    for name, text in named(creds="auth_creds").items():
        document = with_buffers(json.loads(text), BUFFER_FORMS["$binary"])
        if name == "auth_creds":
            document = {"creds": document}
        spread = isinstance(document, dict) and "$binary" not in document
        rows.append({"_id": name, **(document if spread else {"value": document})})
    path.write_text(lines(rows), encoding="utf-8")


def mongo_model(path: Path) -> None:
    """A mongoose model with fields for the bot, the key and the value as JSON in a string; exported as an array."""
    rows = [
        {"_id": {"$oid": f"{n:024x}"}, "sessionId": "bot-1", "key": fixed(name), "value": text, "__v": 0}
        for n, (name, text) in enumerate(named().items())
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")


def mysql_csv(path: Path) -> None:
    """mysql-baileys: a text is stored as it is, so mappings have no quotes; in MySQL's own CSV."""
    rows = []
    for name, text in named().items():
        value = json.loads(text)
        rows.append(["bot-1", name, value if isinstance(value, str) else text, ""])
    content = csv_text(
        ["session", "id", "value", "note"],
        rows,
        quoting=csv.QUOTE_ALL,
        doublequote=False,
        escapechar="\\",
        lineterminator="\n",
    )
    path.write_text(content, encoding="utf-8")


def device_csv(path: Path) -> None:
    """The same with other names, as most programs write CSV."""
    rows = [["bot-1", fixed(name), text] for name, text in named().items()]
    path.write_text(csv_text(["device_id", "id", "value"], rows, delimiter=";"), encoding="utf-8-sig")


def prisma_lines(path: Path) -> None:
    """The `Session` model of Prisma adapters (whatsapp-store-db)."""
    rows = [
        {"pkId": n, "sessionId": "bot-1", "id": fixed(name), "data": text}
        for n, (name, text) in enumerate(named().items())
    ]
    path.write_text(lines(rows), encoding="utf-8")


def typed_csv(path: Path) -> None:
    """A table with the type and the id in two columns, as the original operator's, with the creds as one more row."""
    rows = [["bot-1", "creds", "", real_creds().decode()]] + [["bot-1", *row] for row in keys()]
    path.write_text(csv_text(["company_id", "key_type", "key_id", "value"], rows), encoding="utf-8")


def evolution_rows(path: Path) -> None:
    """Evolution API's `Session` rows: the creds as JSON in a JSON string, of two instances, and no keys."""
    creds = json.dumps(real_creds().decode())
    rows = [["cm1", "instance-1", creds, "2026-01-01"], ["cm2", "instance-2", json.dumps(creds), "2026-01-01"]]
    path.write_text(csv_text(["id", "sessionId", "creds", "createdAt"], rows), encoding="utf-8")


def evolution_hash(path: Path) -> None:
    """`redis-cli --json HGETALL evolution:instance:…`: an instance's keys without its creds."""
    path.write_text(json.dumps({name: text for name, text in named().items() if name != "creds"}), encoding="utf-8")


WHOLE_STATES = {
    "sqlite": [baileys_sqlite],
    "document": [single_file],
    "redis": [redis_object, redis_lines, redis_hash_in_lines, redis_csv_hash, redis_plain_hash],
    "mongo": [mongo_spread, mongo_model],
    "table": [mysql_csv, device_csv, prisma_lines, typed_csv],
}
"""The dumps of a whole state, by the format that each is recognized as."""
