"""The machine on which figures were taken, and the commit that was measured."""

import os
import platform
import sqlite3
import subprocess
from pathlib import Path

import psutil
import psycopg
from msgspec import Struct

from rig.paths import PROJECT

TIMEOUT_S = 10.0


class Machine(Struct, frozen=True):
    """Its processor, its memory in decimal gigabytes, and the versions of the measured programs."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    postgres: str
    sqlite: str
    node: str | None


def this_machine(postgres_url: str, node: str | None) -> Machine:
    """This machine, with the version of the Postgres server at that address."""
    with psycopg.connect(postgres_url, connect_timeout=5) as conn:
        ((postgres,),) = conn.execute("SHOW server_version").fetchall()
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        postgres=str(postgres),
        sqlite=sqlite3.sqlite_version,
        node=node,
    )


def commit() -> str | None:
    """The measured commit, with a + if the tree has uncommitted changes; None outside a checkout."""
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],  # noqa: S607
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return git.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
