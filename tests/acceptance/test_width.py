"""Every command's output and help at the width of its terminal: no line is longer, and no word is broken or lost."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from commands import program
from commands.examples import EXAMPLES
from rig.paths import PROJECT
from tests.acceptance.in_process import run, run_json
from tests.conformance.sealing.stored import OLD_KEY

pytestmark = pytest.mark.xdist_group("width")  # So the demo data is made once.

WIDE = "500"
COMMANDS = (
    "migrate",
    "migrate --dry-run",
    "check",
    "types",
    "growth",
    "growth --ttl pre-key=14d",
    "perf --rounds 1",
    "backfill --dry-run --enforce",
    "backfill --enforce",
    "sweep --dry-run",
    "sweep",
    "import {folder}/state.jsonl --company other",
    "import {folder}/backup.jsonl --dry-run",
    "export {folder}/out",
    "export {folder}/out.jsonl --dry-run",
    "export --all {folder}/out.jsonl --dry-run",
    "verify {folder}/backup.jsonl",
    "repair --dry-run",
    "repair",
    "rotate --dry-run",
    "rotate",
    "trash",
    "restore --company gone --dry-run",
    "restore --company gone --fresh-sessions",
    "rolled-back --yes",
    "purge --company demo --dry-run",
    "purge --company demo --yes",
    "seed --company second",
    "doctor",
    "company delete demo --yes",
    "token create --company demo",
    "token list",
    "token revoke {token}",
)
"""Command lines that go over every report, on the demo data."""

FIRST_HEADS = {"key", "type", "id", "company"}
"""Words over a first column, which a narrow terminal leaves out: its cells become headings."""

GROUPS = {"token": program.TOKEN_COMMANDS, "company": program.COMPANY_COMMANDS}
IN_GROUPS = tuple(f"{group} {name}" for group, commands in GROUPS.items() for name in commands)
HELPS = ("", *program.COMMANDS, *GROUPS, *IN_GROUPS)


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[Path, str]]:
    """A folder with a short path that holds the demo data as `seeded.db` and as an archive; the id of one token."""
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as name:
        folder = Path(name)
        url = f"sqlite:///{folder}/seeded.db"
        assert run("seed", url=url).returncode == 0
        run_json("token", "create", "--admin", "--expires", "90d", url=url)
        token = run_json("token", "create", "--company", "demo", url=url)["token_id"]
        assert run("seed", "--company", "gone", "--yes", url=url).returncode == 0
        assert run("company", "delete", "gone", "--yes", url=url).returncode == 0
        assert run("export", f"{folder}/state.jsonl", url=url).returncode == 0
        assert run("export", "--all", f"{folder}/backup.jsonl", url=url).returncode == 0
        yield folder, token


def printed(folder: Path, command: str, columns: str, **settings: str) -> str:
    """The output of a command on a fresh copy of the demo data, in a terminal of this width."""
    for path in folder.glob("k.db*"):
        path.unlink()
    shutil.rmtree(folder / "out", ignore_errors=True)
    shutil.copy(folder / "seeded.db", folder / "k.db")
    url = f"sqlite:///{folder}/k.db"
    secret_key = {"KEYSTORE_SECRET_KEYS": OLD_KEY} if command.startswith("rotate") else {}
    done = run(*command.split(), url=url, cwd=folder, settings={"COLUMNS": columns, **secret_key, **settings})
    assert done.returncode == 0, done.stderr
    return done.stdout


def words(text: str) -> set[str]:
    """The words of an output, without the numbers and tokens that differ from run to run."""
    return set(re.sub(r"\d+", "0", re.sub(r"kst_\S+", "kst", text)).split())


def require_width(text: str, columns: int) -> None:
    """No line is longer than this, except for a single word that is."""
    assert [line for line in text.splitlines() if len(line) > columns and len(line.split()) > 1] == []


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_breaks_lines_between_words(demo: tuple[Path, str], command: str, columns: int) -> None:
    folder, token = demo
    command = command.format(folder=folder, token=token)
    wide, narrow = (printed(folder, command, width) for width in (WIDE, str(columns)))
    require_width(narrow, columns)
    assert words(narrow) <= words(wide)
    assert words(wide) - words(narrow) <= FIRST_HEADS


def test_every_command_is_tried_at_each_width() -> None:
    tried = {" ".join(command.split()[:2]) for command in COMMANDS} | {command.split()[0] for command in COMMANDS}
    assert {*program.COMMANDS, *IN_GROUPS} - tried == {"serve"}


def test_a_wide_terminal_is_used(demo: tuple[Path, str]) -> None:
    lines = printed(demo[0], "doctor", "160").splitlines()
    assert max(map(len, lines)) > 120


def test_colours_are_left_out_on_request(demo: tuple[Path, str]) -> None:
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-7]")
    assert coloured.search(printed(demo[0], "check", "80", FORCE_COLOR="1"))
    assert not coloured.search(printed(demo[0], "check", "80", FORCE_COLOR="1", NO_COLOR="1"))


@pytest.mark.parametrize("command", HELPS)
def test_help_fits_and_ends_with_examples(command: str) -> None:
    wide, narrow = (
        run(*command.split(), "--help", settings={"COLUMNS": width}).stdout.replace(f"{PROJECT}/", "")
        for width in (WIDE, "80")
    )
    require_width(narrow, 80)
    assert words(narrow) == words(wide)
    assert "..." not in narrow.replace("[ARGS]...", "")
    assert "Examples:\n    python run.py " in narrow
    assert not re.search(r"--\S+ <str>", narrow)


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_an_example_is_a_command_line_that_can_be_read(example: str) -> None:
    command: Any = typer.main.get_command(program.app)
    args, context = example.split(), None
    while isinstance(command, TyperGroup):
        context = command.make_context("run.py", args, parent=context)
        _, subcommand, args = command.resolve_command(context, args)
        assert subcommand is not None
        command = subcommand
    if args != ["--help"]:
        command.make_context(example, args, parent=context)
