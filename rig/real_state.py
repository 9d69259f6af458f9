"""The 721 keys that real libsignal sessions produced, as the bytes that a bot stores, and their creds."""

import json
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"


def as_stored(document: object) -> bytes:
    """A JSON document in its compact form."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def real_keys() -> dict[str, dict[str, bytes]]:
    """`{key_type: {key_id: value}}` of the real state."""
    keys: dict[str, dict[str, bytes]] = {}
    with (DATA / "baileys_state.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            keys.setdefault(row["type"], {})[row["id"]] = as_stored(row["value"])
    return keys


@cache
def real_creds() -> bytes:
    """The real state's creds."""
    return as_stored(json.loads((DATA / "baileys_creds.json").read_text(encoding="utf-8")))
