"""The client, built and installed beside each Baileys with npm.

A hash of the sources is written beside each installation, and a lock is held meanwhile, so that nothing is installed
twice. `python3 -m tests.clients.packages` installs everything with the standard library alone; CI runs it while pip
installs the rest.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.paths import PROJECT

CLIENT = PROJECT / "clients" / "baileys"
ADAPTERS = PROJECT / "tests" / "clients" / "adapters"
BAILEYS = ("6", "7")
"""The major versions of Baileys."""

LONG_NAMED = PROJECT / "tests" / "clients" / "baileys-6.7"
"""The older line of Baileys 6, as `@whiskeysockets/baileys`. One test uses it. No folder above has a `baileys`."""

OLDEST_NODE = 20
INSTALL_TIMEOUT_S = 240.0

STAMP = ".installed-from"
"""Name of the file that holds the hash."""

NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
"""npm's errors when the registry can't be reached."""

QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
INSTALL = ("--ignore-scripts", "--prefer-offline")
"""Options of an installation. A package that npm's cache holds is not asked for again, which takes half of the time."""


class PackagesUnavailableError(Exception):
    """Nothing can be installed on this machine. The message is the reason."""


def need_node() -> None:
    """Raise PackagesUnavailableError if there is no Node, or only an older one."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise PackagesUnavailableError("Node and npm aren't installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise PackagesUnavailableError(f"Node {version.strip()} is older than {OLDEST_NODE}")


def npm(folder: Path, *args: str) -> str:
    """Run npm in a folder, and return its output. Raises PackagesUnavailableError without a way to the registry."""
    done = subprocess.run(
        ["npm", *QUIET, *args],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode and args[0] in ("ci", "install") and any(code in done.stderr for code in NO_NETWORK):
        raise PackagesUnavailableError("npm can't reach its registry")
    assert done.returncode == 0, f"npm {' '.join(args)} in {folder}: {done.stdout}{done.stderr}"
    return done.stdout


def built_client() -> Path:
    """Build the client from its sources, and return its folder."""
    names = ("package.json", "package-lock.json", "tsconfig.json", "tsconfig.cjs.json", "build.mjs")
    sources = [CLIENT / name for name in names]
    sources += sorted((CLIENT / "src").rglob("*.ts"))
    with _locked(CLIENT):
        if _is_stale(CLIENT / "node_modules", sources) or not (CLIENT / "dist").exists():
            npm(CLIENT, "ci", *INSTALL)
            npm(CLIENT, "run", "build")
            _write_stamp(CLIENT / "node_modules", sources)
    return CLIENT


def peer(baileys: str) -> Path:
    """The folder of a bot with this major version of Baileys."""
    return CLIENT / "peers" / f"baileys-{baileys}"


def bot_folder(folder: Path) -> Path:
    """Install a bot's Baileys and the packed client in its folder, as its author would; return the folder."""
    client = built_client()
    sources = [folder / "package.json", folder / "package-lock.json", *sorted((client / "dist").rglob("*.*s*"))]
    with _locked(folder):
        if _is_stale(folder / "node_modules", sources):
            npm(folder, "ci", *INSTALL)
            with tempfile.TemporaryDirectory() as packed:
                name = npm(client, "pack", f"--pack-destination={packed}").strip().splitlines()[-1]
                npm(folder, "install", "--no-save", *INSTALL, f"{packed}/{name}")
            _write_stamp(folder / "node_modules", sources)
    return folder


def adapters_folder() -> Path:
    """Install the adapters that npm has, and return the folder of the script that writes with them."""
    sources = [ADAPTERS / "package.json", ADAPTERS / "package-lock.json"]
    with _locked(ADAPTERS):
        if _is_stale(ADAPTERS / "node_modules", sources):
            npm(ADAPTERS, "ci", *INSTALL)
            _write_stamp(ADAPTERS / "node_modules", sources)
    return ADAPTERS


def main() -> None:
    """Build and install everything. Without Node or a way to the registry, exit with the reason."""
    try:
        need_node()
        for folder in (*map(peer, BAILEYS), LONG_NAMED):
            bot_folder(folder)
        adapters_folder()
    except PackagesUnavailableError as error:
        sys.exit(f"the npm packages can't be installed here: {error}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time install in this folder."""
    with (folder / "package.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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


if __name__ == "__main__":
    main()
