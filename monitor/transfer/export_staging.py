"""The place where an export is written until it is whole: a hidden folder beside its target, renamed in one step.

A killed process leaves its hidden folder behind, with secrets in it. Each folder is locked while its export runs. The
lock ends with the process, so the next export to the same target knows which folders it may remove.
"""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keystore.errors import InvalidInput


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a new private folder beside `target`; it is removed afterwards unless it was renamed.
    Raises InvalidInput if files can't be written there."""
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


def private_file(path: Path) -> BinaryIO:
    """Open a new file that only its owner can read: it has secrets. (A folder from `mkdtemp` is 0700 already.)"""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def write_private(path: Path, content: bytes) -> None:
    """Write such a file."""
    with private_file(path) as file:
        file.write(content)


def require_parent(target: Path) -> None:
    """Raise InvalidInput if the folder that `target` is to be in doesn't exist."""
    parent = target.absolute().parent
    if not parent.is_dir():
        raise InvalidInput(f"{parent} doesn't exist; create it first")


def _clear_abandoned(folder: Path, prefix: str) -> None:
    """Remove the folders of killed exports; an export at work holds its folder's lock."""
    for abandoned in folder.glob(f"{glob.escape(prefix)}*"):
        try:
            # Others may write into this folder (/tmp). Opening their named pipe would wait for a writer without end.
            lock = os.open(abandoned, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            if os.fstat(lock).st_uid != os.geteuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(abandoned, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
