"""Who may import what: run.py → commands → service → api → monitor → keystore, and each library in its one module.

The syntax trees are read, nothing is imported: an import inside a function counts as well, and so does the name of a
module in a string, as pytest takes its plugins.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.paths import PROJECT

LAYERS = ("keystore", "monitor", "api", "service", "commands", "run")
"""The program, from the lowest part to the highest: each may import those before it."""

BESIDE = {
    "settings.py": {"keystore.ttl", "keystore.errors"},
    "rig": {"keystore"},
    "bench": {"keystore", "monitor", "rig"},
}
"""The other parts, and all that each may import of the house."""

MAY_IMPORT = {
    **{part: set(LAYERS[:height]) for height, part in enumerate(LAYERS[:3])},
    "service": {*LAYERS[:3], "settings"},
    "commands": {*LAYERS[:4], "settings"},
    "run.py": {*LAYERS, "settings"},
    **BESIDE,
}
HOUSE = {*LAYERS, "settings", "rig", "bench", "tests"}

ONE_MODULE = {
    "psycopg": "keystore/postgres/link.py",
    "psycopg_pool": "keystore/postgres/link.py",
    "sqlite3": "keystore/sqlite/link.py",
    "sqlite_utils": "keystore/sqlite/link.py",
    "yoyo": "keystore/migrate.py",
    "schedule": "monitor/running/loop.py",
    "requests": "monitor/telegram/api.py",
    "psutil": "monitor/alerts/memory.py",
    "granian": "api/workers/worker.py",
    "prometheus_client": "api/metrics.py",
    "jinja2": "api/page/rendering.py",
    "pydantic_settings": "settings.py",
}
"""Each library, and the one module that talks to it; `bench` and `rig` may import those below too."""

MEASURED = {"psycopg", "psycopg_pool", "sqlite3", "sqlite_utils", "psutil", "granian", "jinja2"}
"""The libraries that measurements use too: most are measured, and jinja2 renders the report."""
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv"}


def modules(part: str) -> list[Path]:
    """The Python files of one part; none where the part isn't built yet."""
    path = PROJECT / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports: of `from a import b` both; a module's name in a string too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and names_a_module(node.value):
            names.add(node.value)
    return names


def names_a_module(text: str) -> bool:
    """Whether a string is the dotted name of a module of this house."""
    part, *rooms = text.split(".")
    return part in HOUSE and bool(rooms) and (PROJECT / part / Path(*rooms)).with_suffix(".py").is_file()


def imports_any(path: Path, unwanted: set[str]) -> list[str]:
    """Which of these modules, or of what is in them, a file imports."""
    return sorted(name for name in imports(path) if any(name == bad or name.startswith(f"{bad}.") for bad in unwanted))


def imports_beyond(path: Path, part: str) -> list[str]:
    """What a file imports of the house that its part may not; its own part it may."""
    allowed = MAY_IMPORT[part] | {part.removesuffix(".py")}
    return [
        name
        for name in imports_any(path, HOUSE)
        if not any(
            name == module or name.startswith(f"{module}.") or module.startswith(f"{name}.") for module in allowed
        )
    ]


def product() -> Iterator[Path]:
    """Every file of the product, and of what measures it."""
    for part in MAY_IMPORT:
        yield from modules(part)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    assert modules(part), f"{part} isn't there"
    beyond = {str(path.relative_to(PROJECT)): imports_beyond(path, part) for path in modules(part)}
    assert not {path: names for path, names in beyond.items() if names}


@pytest.mark.parametrize("library", ONE_MODULE)
def test_a_library_is_talked_to_in_one_module(library: str) -> None:
    talking = {str(path.relative_to(PROJECT)) for path in product() if imports_any(path, {library})}
    if library in MEASURED:
        talking = {path for path in talking if not path.startswith(("bench/", "rig/"))}
    assert talking == {ONE_MODULE[library]}


def test_only_settings_reads_the_environment() -> None:
    readers = set()
    for path in product():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            reads = (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT) or (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(alias.name in ENVIRONMENT for alias in node.names)
            )
            if reads:
                readers.add(str(path.relative_to(PROJECT)))
    assert {path for path in readers if not path.startswith("rig/")} == {"settings.py"}


def test_run_py_loads_nothing_of_what_only_a_worker_needs() -> None:
    """falcon and granian would take 20 MB in the process that serves nothing itself."""
    loads = "import sys, run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loads], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert not {"falcon", "granian", "msgspec", "prometheus_client", "jinja2"} & set(done.stdout.split())


def test_every_file_of_the_product_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(PROJECT))
        for path in product()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_walk_finds_imports_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("import a.b\nfrom c import d\ndef f() -> None:\n    import e\n", encoding="utf-8")
    assert imports(file) == {"a.b", "c", "c.d", "e"}
    assert imports_any(file, {"a", "e", "d"}) == ["a.b", "e"]
