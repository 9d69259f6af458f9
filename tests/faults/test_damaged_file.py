"""An SQLite file that was torn, or in which a bit was flipped: no wrong value is ever read if values are sealed."""

import sys
from base64 import b64encode
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from keystore import KeystoreError, open_store
from rig.baileys_state import real_creds, real_keys

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

SECRET_KEY = b64encode(bytes(range(1, 33))).decode()
PLAIN_TYPE = "lid-mapping"
"""Its values aren't sealed: the guards of a sweep read them in the database."""

FLIPS, CUTS = 4_000, 600


def test_no_wrong_value_is_read_from_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "k.db"
    with open_store(f"sqlite:///{file}", secret_keys=SECRET_KEY) as store:
        store.set("1", real_keys(), real_creds())
    good = file.read_bytes()
    outcomes = dict.fromkeys(("whole", "in part, the rest named or gone", "an error"), 0)
    for seed in range(FLIPS + CUTS):
        file.write_bytes(damaged(good, Random(seed), is_cut=seed >= FLIPS))
        outcomes[outcome(file)] += 1
    assert outcomes["an error"] > 0
    assert outcomes["in part, the rest named or gone"] > 0
    shown = ", ".join(f"{count} {name}" for name, count in outcomes.items())
    sys.stdout.write(f"\ndamaged SQLite file: {FLIPS} with a flipped bit, {CUTS} torn: {shown}; no wrong key\n")


def damaged(good: bytes, random: Random, *, is_cut: bool) -> bytes:
    """Flip a bit, or cut off the end of the file and put other bytes there, as a torn write does."""
    data = bytearray(good)
    place = random.randrange(len(data))
    if is_cut:
        data[place:] = random.randbytes(min(4_096, len(data) - place)) if random.random() < 0.5 else b""
    else:
        data[place] ^= 1 << random.randrange(8)
    return bytes(data)


def outcome(file: Path) -> str:
    """Read the state, and fail if any value is wrong. Return what came of it."""
    for journal in ("-wal", "-shm"):
        Path(f"{file}{journal}").unlink(missing_ok=True)
    try:
        with capture_logs(), open_store(f"sqlite:///{file}", secret_keys=SECRET_KEY, create=False) as store:
            state = store.load("1")
    except KeystoreError:
        return "an error"
    assert state.creds in (real_creds(), None)
    for kind, by_id in state.keys.items():
        for key_id, value in by_id.items():
            if kind in real_keys().keys() - {PLAIN_TYPE}:
                assert value == real_keys()[kind].get(key_id), f"a wrong value of {kind} {key_id}"
            else:  # A mapping, perhaps under a damaged type.
                assert b"Buffer" not in value, f"a key as {kind} {key_id}"
    return "whole" if state.keys == real_keys() else "in part, the rest named or gone"
