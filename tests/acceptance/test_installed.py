"""The program as a wheel in an empty environment: one command, nothing in the way of others, its own parts inside.

The environment takes its libraries from the one that runs the tests, so nothing is downloaded.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import hatchling
import pytest
import requests
import typer

from rig.paths import PROJECT
from rig.program import TIMEOUT_S, environment
from rig.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("installed")]

LIBRARIES = {str(Path(str(library.__file__)).parent.parent) for library in (typer, hatchling)}


def run(*args: str | Path, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in an environment without settings of ours."""
    variables = {name: value for name, value in environment(None, settings).items() if not name.startswith("PYTHON")}
    return subprocess.run(
        args, cwd=cwd, env=variables, capture_output=True, text=True, timeout=2 * TIMEOUT_S, check=False
    )


def pip(python: Path, *args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run our own pip for another environment, which takes less time than installing pip there."""
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, *args, cwd=cwd)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=PROJECT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder).returncode == 0
    python = folder / "env" / "bin" / "python"
    done = pip(python, "install", "--no-index", "--no-deps", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    _site_packages(python.parent).joinpath("libraries.pth").write_text("\n".join(LIBRARIES), encoding="utf-8")
    return python.parent


def _site_packages(programs: Path) -> Path:
    (folder,) = (programs.parent / "lib").glob("python3*/site-packages")
    return folder


@pytest.fixture
def beside_a_checkout(tmp_path: Path) -> Path:
    """A working folder with a checkout in a folder `keystore`, and modules with the names of ours."""
    (tmp_path / "keystore").mkdir()
    for name in ("run", "settings", "api", "commands"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger was imported')\n", encoding="utf-8")
    return tmp_path


def test_the_top_of_site_packages_has_three_names_of_ours(installed: Path) -> None:
    listed = pip(installed / "python", "show", "--files", "signal-keystore", cwd=installed)
    files = listed.stdout.partition("Files:\n")[2].split()
    top = {Path(file).parts[0] for file in files if not file.startswith(("..", "signal_keystore-"))}
    assert top == {"keystore", "monitor", "signal_keystore"}


@pytest.mark.parametrize("start", [["signal-keystore"], ["python", "-m", "signal_keystore"]], ids=" ".join)
def test_the_command_works_in_any_folder(installed: Path, beside_a_checkout: Path, start: list[str]) -> None:
    folder = beside_a_checkout
    (folder / ".env").write_text("KEYSTORE_URL=sqlite:///bots.db\n", encoding="utf-8")
    program, *arguments = start
    refused = run(installed / program, *arguments, "check", cwd=folder)
    assert f"`{' '.join(start)} migrate`" in refused.stderr
    assert str(folder / "bots.db") in refused.stderr, "the .env of the working folder is read"
    assert run(installed / program, *arguments, "seed", cwd=folder).returncode == 0
    checked = run(installed / program, *arguments, "check", cwd=folder, COLUMNS="500")
    assert "665" in checked.stdout, checked.stderr
    assert f"`{' '.join(start)} backfill`" in checked.stdout


def test_the_library_is_imported_beside_a_checkout(installed: Path, beside_a_checkout: Path) -> None:
    script = "from keystore import open_store\nwith open_store('sqlite:///k.db') as store: print(store.load('1').total)"
    done = run(installed / "python", "-c", script, cwd=beside_a_checkout)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_the_service_and_its_worker_start(installed: Path, beside_a_checkout: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as stderr:
        variables = environment(None, {"KEYSTORE_LOG": "json"})
        process = subprocess.Popen(
            [installed / "signal-keystore"],
            cwd=beside_a_checkout,
            env=variables,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        eventually(lambda: '"event": "serving"' in log.read_text(encoding="utf-8"), "it serves", 30)
        address = log.read_text(encoding="utf-8").partition('"http": "')[2].partition('"')[0]
        assert requests.get(f"{address}/healthz", timeout=20).status_code == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_completion_and_version(installed: Path, tmp_path: Path) -> None:
    program = installed / "signal-keystore"
    assert run(program, "--version", cwd=tmp_path).stdout.startswith("signal-keystore ")
    question = {"COMP_WORDS": "signal-keystore comp", "COMP_CWORD": "1"}
    completion = run(program, cwd=tmp_path, _SIGNAL_KEYSTORE_COMPLETE="complete_bash", **question)
    assert completion.stdout.split() == ["company"]


def test_an_editable_installation_has_the_command_too(installed: Path, tmp_path: Path) -> None:
    environment_folder = tmp_path / "env"
    shutil.copytree(installed.parent, environment_folder, symlinks=True)
    python = environment_folder / "bin" / "python"
    from_here = ("--no-index", "--no-deps", "--no-build-isolation", "--editable", PROJECT)
    done = pip(python, "install", *from_here, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = run(environment_folder / "bin" / "signal-keystore", "--version", cwd=tmp_path)
    assert shown.stdout.startswith("signal-keystore "), shown.stderr
    where = run(python, "-c", "import keystore; print(keystore.__file__)", cwd=tmp_path)
    assert where.stdout.strip() == str(PROJECT / "keystore" / "__init__.py")
