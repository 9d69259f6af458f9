"""Imports against the real programs: dumps that the adapters of npm wrote, and real Baileys on an imported state."""

import json
import subprocess
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from keystore import Store, open_store
from keystore.records import AuthState
from keystore.values.fitting import JSON_IN_A_STRING, MONGO_BINARY
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.readers.recognition import source_at
from monitor.transfer.transfer import import_state
from rig.baileys_state import DATA, STATE, real_creds, real_keys
from rig.relay import free_port
from tests.clients.accounts import Accounts
from tests.clients.conversation import (
    BOT,
    CONTACTS,
    FEW_GROUPS,
    establish_sessions,
    exchange_sender_keys,
    open_peers,
    talk_in_groups,
    write_both_ways,
)
from tests.clients.restartable_service import RestartableService
from tests.keystore.value_forms import encoded
from tests.monitor.transfer.folders import write_folder

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("client_imports")]

MONGO_LOSES = ("identity-key", "sender-key", "lid-mapping", "device-list")
"""The types that mongo-baileys can't store: it sets a value's fields, and these values have none."""


@pytest.fixture(scope="module")
def dumps(adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The folder with the adapters' dumps, and the number of keys that each adapter took."""
    folder = tmp_path_factory.mktemp("dumps")
    arguments = [str(STATE), str(DATA / "baileys_creds.json"), str(folder)]
    done = subprocess.run(
        ["node", str(adapters / "write.mjs"), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def documents(state: AuthState) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The creds and keys as documents: the order of an object's fields may differ."""
    keys = {kind: {k: json.loads(value) for k, value in by_id.items()} for kind, by_id in state.keys.items()}
    return json.loads(state.creds or b"null"), keys


@pytest.mark.parametrize(
    ("file", "read_as", "adapter"),
    [
        ("multi-file", "folder", None),
        ("mysql.jsonl", "table", "mysql"),
        ("prisma.jsonl", "table", "prisma"),
        ("keyv.json", "redis", "keyv"),
        ("mongo-relaxed.jsonl", "mongo", "mongo"),
        ("mongo-canonical.jsonl", "mongo", "mongo"),
    ],
)
def test_a_dump_of_the_real_package_comes_in_whole(
    dumps: tuple[Path, dict[str, int]], tmp_path: Path, file: str, read_as: str, adapter: str | None
) -> None:
    folder, taken = dumps
    with open_store(f"sqlite:///{tmp_path}/k.db") as store:
        source = source_at(folder / file)
        report = import_state(store, "1", source)
        state = store.load("1")
    assert (source.read_as, report.skipped, report.creds) == (read_as, (), True)
    assert report.verified == report.keys == (taken[adapter] if adapter else 721)
    lost = MONGO_LOSES if adapter == "mongo" else ()
    expected = {kind: by_id for kind, by_id in real_keys().items() if kind not in lost}
    assert documents(state) == documents(AuthState(real_creds(), expected))
    assert report.keys == 721 or adapter == "mongo"


WRAPPINGS = (("bare base64", 1), ("$binary", 0), ("array", 2))
"""Forms of Buffers, and how many strings a value is in; the values of a wrapped state take turns."""


def test_every_message_decrypts_on_an_unwrapped_state(tmp_path: Path, each_baileys: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    with RestartableService(url, tmp_path, free_port()) as service, Accounts(each_baileys) as peers:
        service.admit("acme")
        open_peers(peers)
        with Accounts(each_baileys, service.token) as bot:
            bot.do(BOT, "open", keystore=service.keystore())
            establish_sessions(bot, peers)
            exchange_sender_keys(bot, peers, FEW_GROUPS)
            talk_in_groups(bot, peers, "before", FEW_GROUPS)
            bot.do(BOT, "mapLids", pairs=list(CONTACTS))
            bot.do(BOT, "close")
        with open_store(url) as store:
            replace_by_import(store, service.company, tmp_path)
        with Accounts(each_baileys, service.token) as bot:
            bot.do(BOT, "open", keystore=service.keystore())
            write_both_ways(bot, peers, "after the import")
            talk_in_groups(bot, peers, "after the import", FEW_GROUPS)
            for contact in CONTACTS:
                assert bot.do(BOT, "lidOf", pn=contact["pn"]) == contact["lid"]
            bot.do(BOT, "close")


def replace_by_import(store: Store, company: str, folder: Path) -> None:
    """Put the company's state into a folder with its values wrapped, clear it, and import the folder."""
    state = store.load(company)
    assert state.creds is not None
    turns = cycle(WRAPPINGS)

    def wrapped(value: bytes) -> bytes:
        form, times = next(turns)
        return encoded(value, form, times=times)

    keys = {kind: {key_id: wrapped(value) for key_id, value in by_id.items()} for kind, by_id in state.keys.items()}
    auth = write_folder(folder / "auth", keys, encoded(state.creds, "$binary"))
    store.clear(company)
    report = import_state(store, company, BaileysFolder(auth))
    assert (report.verified, report.creds, report.skipped) == (state.total, True, ())
    assert report.unwrapped.keys() >= {JSON_IN_A_STRING, MONGO_BINARY}
