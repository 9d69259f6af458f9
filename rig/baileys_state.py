"""The real Baileys auth state: 721 keys that libsignal sessions produced, and their creds."""

import json
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
STATE = DATA / "baileys_state.jsonl"
STATE_KEYS = 721

BURST_KEYS = 250
"""The number of pre-keys that a reconnect writes."""

BAILEYS_7_BURST_KEYS = 812
"""The number of pre-keys that Baileys 7 writes when the server holds none."""


def as_stored(document: object) -> bytes:
    """Return a JSON document in its compact form."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def real_keys() -> dict[str, dict[str, bytes]]:
    """Return `{key_type: {key_id: value}}` of the real state, to be read only."""
    keys: dict[str, dict[str, bytes]] = {}
    for line in STATE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        keys.setdefault(row["type"], {})[row["id"]] = as_stored(row["value"])
    assert sum(map(len, keys.values())) == STATE_KEYS
    return keys


@cache
def real_creds() -> bytes:
    """Return the real state's creds."""
    return as_stored(json.loads((DATA / "baileys_creds.json").read_text(encoding="utf-8")))


def pre_keys(keys: int = BURST_KEYS, first: int = 1_000) -> dict[str, bytes]:
    """Return so many pre-keys, with ids from `first` on and the real pre-keys' values over and over."""
    values = list(real_keys()["pre-key"].values())
    return {str(first + number): values[number % len(values)] for number in range(keys)}
