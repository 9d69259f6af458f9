"""Commands run inside the test's own process, through the program's own entrance: 20 ms in place of a second.

`serve` is always a process of its own (`rig.program`): it takes over the signals of the process that it runs in.
"""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import structlog
from typer.testing import CliRunner

import run as entrance
from commands import program
from rig.program import environment
from rig.program import run as run_as_process


def run(
    *args: str,
    url: str | None = None,
    cwd: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    charset: str = "utf-8",
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `charset` is that of its terminal."""
    if args[0] == "serve":
        return run_as_process(*args, url=url, cwd=cwd, settings=settings)
    variables = patch.dict(os.environ, environment(url, settings), clear=True)
    folder = nullcontext() if cwd is None else chdir(cwd)
    with variables, folder, _process_state_restored(), CliRunner(charset).isolation() as (output, errors, _):
        code = program.run(entrance.wire, args)
        sys.stdout.flush()
        sys.stderr.flush()
        printed = [stream.getvalue().decode(charset) for stream in (output, errors)]
    return subprocess.CompletedProcess(args, code, *printed)


def run_json(*args: str, url: str, **settings: str) -> Any:
    """Run a command with `--json` and return the document that it prints."""
    done = run(*args, "--json", url=url, settings=settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_refused(*args: str, url: str | None = None, cwd: Path | None = None, code: int = 1, **settings: str) -> str:
    """Run a command that fails and return its one line on standard error."""
    done = run(*args, url=url, cwd=cwd, settings=settings)
    assert done.returncode == code, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, f"more than one line: {done.stderr}"
    return done.stderr


@contextmanager
def _process_state_restored() -> Iterator[None]:
    """A command sets up logging and a handler for SIGTERM for its process: they end with the block."""
    root, logging_of_tests, on_sigterm = logging.getLogger(), structlog.get_config(), signal.getsignal(signal.SIGTERM)
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in root.manager.loggerDict}
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
        for name in root.manager.loggerDict:
            logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
        structlog.configure(**logging_of_tests)
        signal.signal(signal.SIGTERM, on_sigterm)
