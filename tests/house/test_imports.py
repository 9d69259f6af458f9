"""Imports point one way (run.py → commands → service → api → monitor → keystore); each library has its one module.

These tests read syntax trees and import nothing. So an import inside a function counts too, and so does a module's
name in a string: pytest names its plugins that way.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from rig.paths import PROJECT

pytestmark = pytest.mark.xdist_group("house_imports")  # Each file is parsed once.

LAYERS = ("keystore", "monitor", "api", "service", "commands", "run")
"""The parts of the program, lowest first. Each may import those before it."""

BESIDE = {
    "settings.py": {"keystore.ttl", "keystore.errors", "keystore.records", "keystore.sealing.secret_keys"},
    "rig": {"keystore"},
    "bench": {"keystore", "monitor", "rig"},
}
"""The other parts, and everything in the project that each may import."""

MAY_IMPORT = {
    **{part: set(LAYERS[:height]) for height, part in enumerate(LAYERS[:3])},
    "service": {*LAYERS[:3], "settings"},
    "commands": {*LAYERS[:4], "settings"},
    "run.py": {*LAYERS, "settings"},
    "signal_keystore": {"run", "commands", "api.workers.light_imports", "keystore"},
    **BESIDE,
}
HOUSE = {*LAYERS, "settings", "signal_keystore", "rig", "bench", "tests"}

ONE_MODULE = {
    "psycopg": "keystore/postgres/link.py",
    "psycopg_pool": "keystore/postgres/link.py",
    "sqlite3": "keystore/sqlite/link.py",
    "sqlite_utils": "keystore/sqlite/link.py",
    "yoyo": "keystore/migrate.py",
    "cryptography": "keystore/sealing/sealed_form.py",
    "schedule": "monitor/running/loop.py",
    "requests": "monitor/telegram/client.py",
    "psutil": "monitor/alerts/memory.py",
    "granian": "api/workers/server.py",
    "prometheus_client": "api/metrics.py",
    "jinja2": "api/page/rendering.py",
    "pydantic": "settings.py",
    "dotenv": "settings.py",
}
"""Each library and the one module or folder that imports it. `bench` and `rig` may also import those in `MEASURED`."""

MEASURED = {"psycopg", "psycopg_pool", "sqlite3", "sqlite_utils", "psutil", "granian", "jinja2", "pydantic"}
"""Libraries that measurements use too: most are measured, jinja2 and pydantic write and read the report."""

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv"}


def modules(part: str) -> list[Path]:
    """The Python files of one part; none if the part doesn't exist."""
    path = PROJECT / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """The dotted names that a file imports: `a` and `a.b` for `from a import b`, and module names in strings."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and names_a_module(node.value):
            names.add(node.value)
    return frozenset(names)


def names_a_module(text: str) -> bool:
    """True if a string is the dotted name of a module of this project."""
    part, *rooms = text.split(".")
    return part in HOUSE and bool(rooms) and module_file(text) is not None


def module_file(name: str) -> Path | None:
    """The file of a dotted name where it is a module of this house; packages themselves hold no code."""
    path = (PROJECT / Path(*name.split("."))).with_suffix(".py")
    return path if name and path.is_file() else None


def room_of(path: Path) -> str:
    """The folder of a module; of one at the top of its part, the module itself."""
    part, *rooms = path.relative_to(PROJECT).parts
    return f"{part}/{rooms[0]}" if rooms else part


def imports_from(path: Path, sources: set[str]) -> list[str]:
    """The names that a file imports from these modules, sorted."""
    return sorted(
        name for name in imports(path) if any(name == module or name.startswith(f"{module}.") for module in sources)
    )


def imports_beyond(path: Path, part: str) -> list[str]:
    """The names that a file imports from other parts although its own part may not."""
    allowed = MAY_IMPORT[part] | {part.removesuffix(".py")}
    return [
        name
        for name in imports_from(path, HOUSE)
        if not any(
            name == module or name.startswith(f"{module}.") or module.startswith(f"{name}.") for module in allowed
        )
    ]


def product() -> Iterator[Path]:
    """Every file of the product, `bench` and `rig`."""
    for part in MAY_IMPORT:
        yield from modules(part)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    assert modules(part), f"{part} doesn't exist"
    forbidden = {str(path.relative_to(PROJECT)): imports_beyond(path, part) for path in modules(part)}
    assert not {path: names for path, names in forbidden.items() if names}


@pytest.mark.parametrize("part", ["keystore", "monitor", "api", "bench"])
def test_rooms_of_a_part_import_each_other_in_one_direction(part: str) -> None:
    """A module at the top of a part is a room of its own."""
    needs: dict[str, set[str]] = {}
    for path in modules(part):
        room = room_of(path)
        needs.setdefault(room, set()).update(
            room_of(file) for name in imports(path) if (file := module_file(name)) is not None
        )
    TopologicalSorter({room: rooms - {room} for room, rooms in needs.items()}).prepare()  # raises CycleError


@pytest.mark.parametrize("library", ONE_MODULE)
def test_a_library_is_imported_in_one_module(library: str) -> None:
    importing = {str(path.relative_to(PROJECT)) for path in product() if imports_from(path, {library})}
    if library in MEASURED:
        importing = {path for path in importing if not path.startswith(("bench/", "rig/"))}
    place = ONE_MODULE[library]
    assert {place if path.startswith(f"{place}/") else path for path in importing} == {place}


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


def test_run_py_loads_no_library_that_a_start_does_not_need() -> None:
    """Those of the workers would take 20 MB in a process that serves no request. The others cost time and memory."""
    of_workers = {"falcon", "granian", "msgspec", "prometheus_client", "jinja2"}
    of_some_databases = {"psycopg", "psycopg_pool", "yoyo", "cryptography"}
    of_some_reports = {"requests", "numpy", "rich.traceback", "rich.progress"}
    assert not (of_workers | of_some_databases | of_some_reports) & loaded_by("import run")


def test_a_worker_loads_no_library_that_only_some_databases_need() -> None:
    loaded = loaded_by("import api.workers.light_imports, api.workers.worker")
    assert not {"psycopg", "psycopg_pool", "yoyo", "numpy", "rich", "cryptography"} & loaded


def test_garbage_is_collected_again_once_everything_is_imported() -> None:
    loaded_by("import gc, run; assert gc.isenabled()")


def loaded_by(imports: str) -> set[str]:
    """The modules that a new process has loaded after these imports."""
    program = f"{imports}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_file_of_the_product_has_a_docstring() -> None:
    undocumented = [
        str(path.relative_to(PROJECT))
        for path in product()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert undocumented == []


def test_imports_are_found_anywhere_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("import a.b\nfrom c import d\ndef f() -> None:\n    import e\n", encoding="utf-8")
    assert imports(file) == {"a.b", "c", "c.d", "e"}
    assert imports_from(file, {"a", "e", "d"}) == ["a.b", "e"]
