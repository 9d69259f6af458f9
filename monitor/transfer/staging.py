"""Where an export is written until it is whole: a hidden folder beside its target, renamed away in one step.

A process that is killed leaves its hidden folder behind, and secrets in it. Each is locked while its export lives, a
lock that ends with the process, so that the next export to the same target knows which ones to clear away.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keystore.errors import InvalidInput

PRIVATE_FILE = 0o600
"""What is exported are secrets: for their owner alone. (A folder that `mkdtemp` makes is 0700 already.)"""


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new private folder beside `target`, gone afterwards unless it was renamed. Raises InvalidInput where files
    can't be written there."""
    target = target.absolute()
    prefix = f".{target.name[:100]}.partial-"
    try:
        _clear_abandoned(target.parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        raise InvalidInput(
            f"{target}: the export can't be written ({error.strerror or error}); check the folder {target.parent}, "
            "its permissions and its free space. What was there before is untouched"
        ) from error


def write_private(path: Path, content: bytes) -> None:
    """Writes a new file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as file:
        file.write(content)


def settle() -> None:
    """Waits until everything written is on disk: a rename must not get there before what it names.

    One call for all files; a sync per file costs an export of thousands of keys a disk wait each.
    """
    os.sync()


def _clear_abandoned(folder: Path, prefix: str) -> None:
    """Removes what killed exports left; one that is still at work holds its lock."""
    for left in folder.glob(f"{_escaped(prefix)}*"):
        lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def _escaped(prefix: str) -> str:
    """The prefix as a pattern that matches itself."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in prefix)
