"""Baileys folders for tests of import and export."""

import json
from collections.abc import Mapping
from pathlib import Path

from keystore.baileys import file_name
from rig.baileys_state import as_stored, real_creds, real_keys


def write_folder(folder: Path, keys: Mapping[str, Mapping[str, bytes]], creds: bytes | None) -> Path:
    """Write a new folder as `useMultiFileAuthState` does, and return it."""
    folder.mkdir()
    if creds is not None:
        (folder / "creds.json").write_bytes(creds)
    for key_type, by_id in keys.items():
        for key_id, value in by_id.items():
            (folder / file_name(key_type, key_id)).write_bytes(value)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file of a folder, by file name."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def staging_folders(folder: Path) -> list[str]:
    """The names of the hidden folders that exports to this folder left."""
    return [entry.name for entry in folder.iterdir() if ".partial-" in entry.name]


def value(key_type: str, number: int = 0) -> bytes:
    """The value of one of the real state's keys of a type."""
    return list(real_keys()[key_type].values())[number]


def other_creds(account: str = "1@s.whatsapp.net") -> bytes:
    """The real creds, as another account's."""
    return as_stored({**json.loads(real_creds()), "me": {"id": account}})
