"""npm: the packages of a folder's lock file, and the Baileys client, built from its sources and packed.

A hash of the sources is written beside each installation, and a lock is held meanwhile, so that nothing is installed
twice. The standard library is enough: CI installs npm's packages while pip installs the rest.
"""

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.paths import PROJECT

CLIENT = PROJECT / "clients" / "baileys"

OLDEST_NODE = 20
INSTALL_TIMEOUT_S = 240.0

STAMP = ".installed-from"
"""Name of the file that holds the hash."""

NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
"""npm's errors when the registry can't be reached."""

QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
INSTALL = ("--ignore-scripts", "--prefer-offline")
"""Options of an installation. A package that npm's cache holds is not asked for again, which takes half of the time."""


class NpmError(Exception):
    """npm failed. The message has its output."""


class PackagesUnavailableError(NpmError):
    """Nothing can be installed on this machine. The message is the reason."""


def need_node() -> None:
    """Raise PackagesUnavailableError if there is no Node, or only an older one."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise PackagesUnavailableError("Node and npm aren't installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise PackagesUnavailableError(f"Node {version.strip()} is older than {OLDEST_NODE}")


def npm(folder: Path, *args: str) -> str:
    """Run npm in a folder, and return its output. Raises NpmError if it fails."""
    command = ["npm", *QUIET, *args]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NpmError(f"npm {' '.join(args)} in {folder} took more than {INSTALL_TIMEOUT_S:g} s") from error
    if done.returncode and args[0] in ("ci", "install") and any(code in done.stderr for code in NO_NETWORK):
        raise PackagesUnavailableError("npm can't reach its registry")
    if done.returncode:
        raise NpmError(f"npm {' '.join(args)} in {folder}: {done.stdout}{done.stderr}")
    return done.stdout


def built_client() -> Path:
    """Build the client from its sources, and return its folder. Raises NpmError."""
    names = ("package.json", "package-lock.json", "tsconfig.json", "tsconfig.cjs.json", "build.mjs")
    sources = [*(CLIENT / name for name in names), *_files(CLIENT / "src")]
    with _locked(CLIENT):
        if _is_stale(CLIENT / "node_modules", sources) or not (CLIENT / "dist").exists():
            npm(CLIENT, "ci", *INSTALL)
            npm(CLIENT, "run", "build")
            _write_stamp(CLIENT / "node_modules", sources)
    return CLIENT


def installed(folder: Path) -> Path:
    """Install the packages of this folder's lock file, and return the folder. Raises NpmError."""
    sources = [folder / "package.json", folder / "package-lock.json"]
    with _locked(folder):
        if _is_stale(folder / "node_modules", sources):
            npm(folder, "ci", *INSTALL)
            _write_stamp(folder / "node_modules", sources)
    return folder


def installed_with_client(folder: Path) -> Path:
    """Install the packages of this folder's lock file and the packed client, as a bot's author would."""
    client = built_client()
    sources = [folder / "package.json", folder / "package-lock.json", *_files(client / "dist")]
    with _locked(folder):
        if _is_stale(folder / "node_modules", sources):
            npm(folder, "ci", *INSTALL)
            with tempfile.TemporaryDirectory() as packed:
                name = npm(client, "pack", f"--pack-destination={packed}").strip().splitlines()[-1]
                npm(folder, "install", "--no-save", *INSTALL, f"{packed}/{name}")
            _write_stamp(folder / "node_modules", sources)
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time install in this folder."""
    with (folder / "package.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _files(folder: Path) -> list[Path]:
    """The files of a folder and of those in it, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_stale(packages: Path, sources: Iterable[Path]) -> bool:
    stamp = packages / STAMP
    return not stamp.exists() or stamp.read_text(encoding="ascii") != _hash(sources)


def _write_stamp(packages: Path, sources: Iterable[Path]) -> None:
    (packages / STAMP).write_text(_hash(sources), encoding="ascii")


def _hash(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()
