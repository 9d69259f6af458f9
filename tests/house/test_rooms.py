"""Each folder is a table of contents: a dozen modules at most, a docstring for the room, and plain file names."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from rig.paths import PROJECT
from tests.house import plain_english

MOST_MODULES = 12
"""In one folder, its `__init__.py` apart."""

MOST_LINES = 400
"""In one module of the product, unless its docstring gives a reason in a line that begins with `Length:`."""

PRODUCT = ("keystore", "monitor", "api", "service", "commands", "signal_keystore", "run.py", "settings.py")


def python_files() -> list[Path]:
    """Every tracked Python file, relative to the project."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [path for path in map(Path, listed.splitlines()) if (PROJECT / path).is_file()]


def docstring(path: Path) -> str:
    """The docstring of a module, "" without one."""
    return ast.get_docstring(ast.parse((PROJECT / path).read_text(encoding="utf-8"))) or ""


def test_no_folder_holds_more_than_a_dozen_modules() -> None:
    rooms: dict[str, int] = defaultdict(int)
    for path in python_files():
        rooms[str(path.parent)] += path.name not in ("__init__.py", "conftest.py", "__main__.py")
    assert {room: modules for room, modules in rooms.items() if modules > MOST_MODULES} == {}


def test_every_room_says_what_lives_there() -> None:
    rooms = {path.parent for path in python_files() if len(path.parts) > 1}
    assert [str(room) for room in rooms if not (PROJECT / room / "__init__.py").is_file()] == []
    assert [str(room) for room in rooms if not docstring(room / "__init__.py")] == []


def test_no_module_has_the_name_of_a_module_of_the_standard_library() -> None:
    assert [str(path) for path in python_files() if path.stem in sys.stdlib_module_names] == []


def test_no_module_of_the_product_is_long_without_a_reason() -> None:
    long = [
        str(path)
        for path in python_files()
        if path.parts[0] in PRODUCT
        and len((PROJECT / path).read_text(encoding="utf-8").splitlines()) > MOST_LINES
        and "\nLength:" not in docstring(path)
    ]
    assert long == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("told = 1\n", "'told'"),
        ("def f(given: int) -> None: ...\n", "'given'"),
        ('"""What a bot needs. More."""\n', "a clause as its subject"),
        ('"""Reads. Whether it can is another matter."""\n', "a clause as its subject"),
        ("# Counted anew each time.\n", "'anew'"),
        ("# The rule of the\n# diary's bots.\n", '"diary\'s"'),
        ('"""' + "word " * 41 + '"""\n', "41 words"),
    ],
)
def test_the_worst_habits_are_found(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    (found_one,) = plain_english.complaints(path)
    assert complaint in found_one[1]


@pytest.mark.parametrize(
    "text",
    [
        '"""Return the keys. Raises StoreUnavailable."""\n',
        '"""How long does it take?"""\n',
        "# The preset is `diary`: the original operator's rule.\n",
        'messages = ["told"]\n',
    ],
)
def test_plain_english_passes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    assert plain_english.complaints(path) == []
