"""The fixtures that every test may ask for, and a line for each reason to skip.

Each fixture lives in a file of `rig/fixtures/` that says what it is for.
"""

from collections import Counter

import pytest

pytest_plugins = [
    "rig.fixtures.clock",
    "rig.fixtures.relay",
    "rig.fixtures.postgres",
    "rig.fixtures.pgbouncer",
    "rig.fixtures.telegram",
]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say each reason to skip once, with the number of tests that it skipped."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, tests in reasons.most_common():
        terminalreporter.write_line(f"{tests} skipped: {reason.removeprefix('Skipped: ')}")
