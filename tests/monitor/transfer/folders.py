"""Baileys folders for tests of import and export."""

from collections.abc import Mapping
from pathlib import Path

from keystore.baileys import file_name


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
