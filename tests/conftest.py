"""The fixtures that every test may ask for, the number of workers, and a line for each reason to skip.

Each fixture lives in a file of `rig/fixtures/` that says what it is for.
"""

import os
from collections import Counter

import hypothesis
import pytest

pytest_plugins = [
    "rig.fixtures.clock",
    "rig.fixtures.relay",
    "rig.fixtures.postgres",
    "rig.fixtures.pgbouncer",
    "rig.fixtures.telegram",
]

# A slow example on a loaded machine is no fault of the code.
hypothesis.settings.register_profile("without a deadline", deadline=None)
hypothesis.settings.load_profile("without a deadline")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than processors: two workers mostly wait for the programs that their tests start.

    These are the workers with the groups `processes` (services) and `bots` (bots and measurements). The tests of a
    group run one after another, because each has a time limit that a crowd of programs would break.
    """
    return (os.cpu_count() or 1) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say each reason to skip once, with the number of tests that it skipped."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, tests in reasons.most_common():
        terminalreporter.write_line(f"{tests} skipped: {reason.removeprefix('Skipped: ')}")
