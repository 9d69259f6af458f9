"""Ctrl-C ends every measurement with one line and the exit code 130."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.command import INTERRUPTED
from rig.paths import PROJECT
from rig.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("interrupts")]


@pytest.mark.parametrize("measurement", ["simulate", "distance", "storms", "http_api", "targets", "scale", "seat"])
def test_ctrl_c_ends_a_measurement_without_a_traceback(measurement: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    process = subprocess.Popen(
        # A run in the background ignores SIGINT, and its children would too.
        ["env", "--default-signal=INT", sys.executable, "-m", f"bench.{measurement}", "--json", figures],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        eventually(figures.exists, "the measurement touches its file when it begins", 60)
        os.killpg(process.pid, signal.SIGINT)  # A terminal sends it to the whole group.
        _, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    # If the signal comes while Python runs generated code (`exec`), it ends itself by the signal after our exit.
    # A shell shows 130 for both.
    assert process.returncode in (INTERRUPTED, -signal.SIGINT), errors
    assert errors.splitlines()[-1:] == ["error: interrupted; a measurement that had not finished gives no figures"]
    assert "Traceback" not in errors
