"""The client, built and installed beside each Baileys with npm.

A hash of the sources is written beside each installation, so that nothing is installed twice.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from rig.paths import PROJECT

CLIENT = PROJECT / "clients" / "baileys"
ADAPTERS = PROJECT / "tests" / "clients" / "adapters"
OLDEST_NODE = 20
INSTALL_TIMEOUT_S = 240.0

STAMP = ".installed-from"
"""Name of the file that holds the hash."""

NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
"""npm's errors when the registry can't be reached."""


def need_node() -> None:
    """Skip the test if there is no Node, or only an older one."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node and npm aren't installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node {version.strip()} is older than {OLDEST_NODE}")


def npm(folder: Path, *args: str) -> str:
    """Run npm in a folder, and return its output. Skips the test if the registry can't be reached."""
    done = subprocess.run(
        ["npm", "--no-audit", "--no-fund", "--no-update-notifier", *args],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode and args[0] in ("ci", "install") and any(code in done.stderr for code in NO_NETWORK):
        pytest.skip("npm can't reach its registry")
    assert done.returncode == 0, f"npm {' '.join(args)} in {folder}: {done.stdout}{done.stderr}"
    return done.stdout


def built_client() -> Path:
    """Build the client from its sources, and return its folder."""
    sources = [CLIENT / "package.json", CLIENT / "package-lock.json", CLIENT / "tsconfig.json"]
    sources += sorted((CLIENT / "src").iterdir())
    if _is_stale(CLIENT / "node_modules", sources) or not (CLIENT / "dist").exists():
        npm(CLIENT, "ci", "--ignore-scripts")
        shutil.rmtree(CLIENT / "dist", ignore_errors=True)
        npm(CLIENT, "run", "build")
        _write_stamp(CLIENT / "node_modules", sources)
    return CLIENT


def bot_folder(baileys: str) -> Path:
    """Install this major version of Baileys and the packed client, as a bot's author would; return the folder."""
    client = built_client()
    folder = CLIENT / "peers" / f"baileys-{baileys}"
    sources = [folder / "package.json", folder / "package-lock.json", *sorted((client / "dist").iterdir())]
    if _is_stale(folder / "node_modules", sources):
        packed = client / npm(client, "pack").strip().splitlines()[-1]
        npm(folder, "ci", "--ignore-scripts")
        npm(folder, "install", "--no-save", "--ignore-scripts", str(packed))
        packed.unlink()
        _write_stamp(folder / "node_modules", sources)
    return folder


def adapters_folder() -> Path:
    """Install the adapters that npm has, and return the folder of the script that writes with them."""
    sources = [ADAPTERS / "package.json", ADAPTERS / "package-lock.json"]
    if _is_stale(ADAPTERS / "node_modules", sources):
        npm(ADAPTERS, "ci", "--ignore-scripts")
        _write_stamp(ADAPTERS / "node_modules", sources)
    return ADAPTERS


def _is_stale(installed: Path, sources: Iterable[Path]) -> bool:
    stamp = installed / STAMP
    return not stamp.exists() or stamp.read_text(encoding="ascii") != _hash(sources)


def _write_stamp(installed: Path, sources: Iterable[Path]) -> None:
    (installed / STAMP).write_text(_hash(sources), encoding="ascii")


def _hash(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()
