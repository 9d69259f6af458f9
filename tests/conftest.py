"""The fixtures that every test may ask for, the number of workers, and a line for each reason to skip.

Each fixture lives in a file of `rig/fixtures/` that says what it is for.
"""

import gc
import os
from collections import Counter
from collections.abc import Generator

import hypothesis
import pytest

from rig.memory_folder import memory_folder

pytest_plugins = [
    "rig.fixtures.clock",
    "rig.fixtures.relay",
    "rig.fixtures.postgres",
    "rig.fixtures.sqlite",
    "rig.fixtures.pgbouncer",
    "rig.fixtures.telegram",
]

EXAMPLES = {"everyday subset": 25, "whole suite": 40, "thorough": 100}
"""Number of examples of a property. A run is thorough if its `-m` leaves no long test out, as `-m "not faults"`."""

for name, examples in EXAMPLES.items():
    # A slow example on a loaded machine is no fault of the code.
    hypothesis.settings.register_profile(name, deadline=None, max_examples=examples)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the number of examples, before the test files are imported and their properties made.

    The tests' folders are in memory where there is room.
    """
    if (folder := memory_folder()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)
    is_thorough = "not long" not in str(config.option.markexpr)
    name = "everyday subset" if is_everyday(config) else "thorough" if is_thorough else "whole suite"
    hypothesis.settings.load_profile(name)


def is_everyday(config: pytest.Config) -> bool:
    """True if only the everyday subset runs."""
    return str(config.option.markexpr) == "not slow"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while tests are collected, and never again among the tests and the modules."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers more than processors: some workers mostly wait for the programs that their tests start.

    The tests of a file that starts programs form a group, which runs one after another on one worker. So there are at
    most as many services, bots and measurements at a time as workers, and a group starts its shared service once. The
    groups come first, and the other tests fill the gaps.

    The everyday subset starts few programs, so it gets one worker more: each worker has to collect every test.
    """
    return (os.cpu_count() or 1) + (1 if is_everyday(config) else 2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say each reason to skip once, with the number of tests that it skipped."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, tests in reasons.most_common():
        terminalreporter.write_line(f"{tests} skipped: {reason.removeprefix('Skipped: ')}")
