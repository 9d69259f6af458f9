"""The 721 real keys that measurements write and read: a Baileys auth state made by real libsignal sessions."""

import json
from functools import cache
from pathlib import Path

STATE = Path(__file__).parent / "data" / "baileys_state.jsonl"
STATE_KEYS = 721
BURST_KEYS = 250
"""What a reconnect writes."""

BAILEYS_7_BURST_KEYS = 812
"""What Baileys 7 writes when the server holds none."""


@cache
def real_state() -> dict[str, dict[str, bytes]]:
    """`{key_type: {key_id: value}}`; for reading only."""
    keys: dict[str, dict[str, bytes]] = {}
    for line in STATE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        keys.setdefault(row["type"], {})[row["id"]] = json.dumps(row["value"], separators=(",", ":")).encode()
    assert sum(map(len, keys.values())) == STATE_KEYS
    return keys


def pre_keys(keys: int = BURST_KEYS, first: int = 1_000) -> dict[str, bytes]:
    """So many pre-keys from this id on, with the real ones' values over and over."""
    values = list(real_state()["pre-key"].values())
    return {str(first + number): values[number % len(values)] for number in range(keys)}
