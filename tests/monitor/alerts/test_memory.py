"""Memory against its real limit: control groups of both versions in an invented tree, and bots' reports."""

import sys
from pathlib import Path

import pytest

from keystore.errors import InvalidInput
from monitor.alerts.memory import BotMemory, Limit, limit, measure

PHYSICAL = 8_000_000_000
UNLIMITED_V1 = "9223372036854771712"


def limit_in(tmp_path: Path, of_process: str) -> Limit:
    """The limit of a process with this `/proc/self/cgroup`, in the tree that a test has made."""
    (tmp_path / "cgroup").write_text(of_process, encoding="utf-8")
    return limit(tmp_path / "cgroup", tmp_path / "fs", PHYSICAL)


def write(root: Path, files: dict[str, str]) -> None:
    """Write a tree of control groups."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("of_process", "files", "expected"),
    [
        ("0::/system.slice/bot.service", {"system.slice/bot.service/memory.max": "536870912"}, 536_870_912),
        (
            "0::/system.slice/bot.service",
            {"system.slice/bot.service/memory.max": "max", "system.slice/memory.max": "1000000000"},
            1_000_000_000,
        ),
        (
            "0::/a/b",
            {"a/b/memory.max": "3000000000", "a/memory.max": "2000000000", "memory.max": "4000000000"},
            2_000_000_000,
        ),
        # In a container the path may be the host's, and the root the container's own group.
        ("0::/docker/4711", {"memory.max": "700000000"}, 700_000_000),
    ],
    ids=["own", "parent", "smallest", "container"],
)
def test_the_smallest_limit_on_the_way_up_counts_in_version_2(
    tmp_path: Path, of_process: str, files: dict[str, str], expected: int
) -> None:
    write(tmp_path / "fs", files)
    assert limit_in(tmp_path, of_process) == Limit(expected, "its control group (v2)")


def test_version_1_has_its_own_tree_and_word_for_no_limit(tmp_path: Path) -> None:
    lines = "9:name=systemd:/\n4:cpu,memory:/jobs/7\n3:cpuset:/\n0::/\n"
    write(tmp_path / "fs" / "memory", {"jobs/7/memory.limit_in_bytes": UNLIMITED_V1})
    assert limit_in(tmp_path, lines) == Limit(PHYSICAL, "the machine's memory")
    write(tmp_path / "fs" / "memory", {"jobs/memory.limit_in_bytes": "512000000"})
    assert limit_in(tmp_path, lines) == Limit(512_000_000, "its control group (v1)")


@pytest.mark.parametrize("of_process", ["", "0::/", "0::/gone", "4:cpu:/a", "0::/../../etc"])
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, of_process: str) -> None:
    (tmp_path / "fs").mkdir()
    assert limit_in(tmp_path, of_process) == Limit(PHYSICAL, "the machine's memory")


def test_without_control_groups_the_machines_memory_counts(tmp_path: Path) -> None:
    assert limit(tmp_path / "none", tmp_path / "none", PHYSICAL) == Limit(PHYSICAL, "the machine's memory")


def test_a_limit_above_the_machines_memory_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "fs", {"memory.max": str(2 * PHYSICAL)})
    assert limit_in(tmp_path, "0::/").source == "the machine's memory"


def test_this_process_is_measured() -> None:
    before = measure()
    assert 0 < before.uss_bytes <= before.rss_bytes < before.limit.size_bytes
    assert 0 < before.used_share < 1
    block = bytearray(50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    after = measure()
    assert after.uss_bytes - before.uss_bytes > 40_000_000
    if sys.platform == "linux" and before.heap_bytes is not None and after.heap_bytes is not None:
        assert after.heap_bytes - before.heap_bytes > 40_000_000


def test_the_heap_is_none_where_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("psutil.heap_info", raising=False)
    assert measure().heap_bytes is None


def test_a_bot_is_judged_by_its_limit() -> None:
    assert BotMemory(125, 150, 2_000, 210).used_share == 0.0625


@pytest.mark.parametrize(
    "values", [(-1, 1, 1, 1), (1, 1, 0, 1), (1, 1.5, 1, 1), (True, 1, 1, 1), ("1", 1, 1, 1), (1, 1, 1, None)]
)
def test_a_report_with_no_number_of_bytes_is_refused(values: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidInput, match="bytes"):
        BotMemory(*values)
