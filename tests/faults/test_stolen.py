"""Somebody has the database's files, its write-ahead log, a dump, a backup and the memory of the service.

A bot seals 721 real keys. Then none of its private keys, and no token, is in any of these, as bytes or as text.
"""

import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rig.baileys_state import real_keys
from tests.acceptance.in_process import run_json
from tests.clients.accounts import Accounts
from tests.clients.conversation import BOT
from tests.faults.conftest import ACCOUNTS, Site, way_of, workers

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

SECRET_KEY = b64encode(bytes(range(1, 33))).decode()
NAMES = rb'"(?:privKey|private|chainKey|rootKey|keyData|data)":'
PRIVATE = re.compile(NAMES + rb'\s*(?:\{[^{}]*"data":\s*)?"([A-Za-z0-9+/]{40,}=*)"')
HEX, BASE64 = re.compile(rb"\\x([0-9a-f]{40,})"), re.compile(rb'"([A-Za-z0-9+/]{60,}=*)"')


@pytest.mark.parametrize("secret_key", [SECRET_KEY, None], ids=["sealed", "plain"])
def test_no_private_key_is_in_what_was_stolen(
    site: Site, baileys: Path, tmp_path: Path, postgres_programs: Path, secret_key: str | None
) -> None:
    keys = {kind: {key_id: json.loads(value) for key_id, value in by_id.items()} for kind, by_id in real_keys().items()}
    with Accounts(baileys, site.token) as bot:
        options = {} if secret_key is None else {"secretKey": secret_key}
        bot.do(BOT, "open", keystore={"url": site.url, "company": ACCOUNTS[0], **options})
        bot.do(BOT, "set", data=keys)
        bot.do(BOT, "close")
    secrets = private_values()
    stolen = dict(copies(site, tmp_path, postgres_programs))
    matches = {name: sum(secret in data for secret in secrets) for name, data in stolen.items()}
    shown = ", ".join(f"{matches[name]} in the {name} ({len(data) / 1e6:.0f} MB)" for name, data in stolen.items())
    kind = "plain" if secret_key is None else "sealed"
    sys.stdout.write(f"\nstolen ({way_of(site)}, {kind}): of {len(secrets):,} {shown}\n")
    if site.token:  # A token comes with each request, so the worker's memory has it.
        del stolen["memory of the worker"]
        assert not any(site.token.encode() in data for data in stolen.values())
    if secret_key is None:  # The search finds what is there.
        assert min(matches[name] for name in ("archive", "dump", "write-ahead log")) > len(secrets) / 3
    else:
        assert {name: count for name, count in matches.items() if count} == {}


def private_values() -> set[bytes]:
    """Every tenth private part of the real keys, as bytes and as base64."""
    values = [value for kind, by_id in real_keys().items() for value in by_id.values() if kind != "lid-mapping"]
    texts = sorted({text for value in values for text in PRIVATE.findall(value)})[::10]
    return {*texts, *map(b64decode, texts)}


def copies(site: Site, folder: Path, programs: Path) -> Iterator[tuple[str, bytes]]:
    """The files and the memory that may be stolen, by name."""
    yield "memory of the worker", b"".join(memory(process) for process in workers()[:1])
    archive = folder / "archive.jsonl"
    run_json("export", "--all", str(archive), url=site.server.url)
    text = archive.read_bytes()
    yield "archive", b"".join((text, *map(b64decode, BASE64.findall(text))))
    dump = subprocess.run([programs / "pg_dump", site.server.url], capture_output=True, check=True, timeout=120)
    yield "dump", b"".join((dump.stdout, *map(bytes.fromhex, (text.decode() for text in HEX.findall(dump.stdout)))))
    site.server.server.stop()  # Everything is in the files then.
    data = site.server.server.data
    files = [path for path in sorted(data.rglob("*")) if path.is_file()]
    yield "write-ahead log", b"".join(path.read_bytes() for path in files if "pg_wal" in path.parts)
    yield "other files", b"".join(path.read_bytes() for path in files if "pg_wal" not in path.parts)


def memory(process: psutil.Process) -> bytes:
    """The writable memory of a process, as a core has it."""
    maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="ascii").splitlines()
    pieces = []
    with Path(f"/proc/{process.pid}/mem").open("rb", 0) as whole:
        for line in maps:
            area, rights, *_ = line.split()
            if not rights.startswith("rw") or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(number, 16) for number in area.split("-"))
            whole.seek(start)
            try:
                pieces.append(whole.read(end - start))
            except OSError:
                continue
    return b"".join(pieces)
