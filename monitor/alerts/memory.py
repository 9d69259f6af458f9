"""How much memory there is left: of this process against its real limit, and of bots by what they report.

The operator's alert compared a heap's used part with its *total*, which a garbage collector keeps near each other, and
so fired every 15 minutes at 83 %. What ends a process is its *limit*; everything here is held against that, and the
breakdown is told beside it, so that a leak can be told from a full cache.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from keystore.errors import InvalidInput
from keystore.ids import canonical_company
from keystore.store import Upkeep

NOTES = "memory/"
FRESH_FOR = timedelta(minutes=10)
"""A bot's sample older than this says nothing about its memory any more."""

KEPT_FOR = timedelta(days=1)
"""Samples of bots that have stopped to report are forgotten then."""

OF_PROCESS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limit:
    """Where a process's memory ends, and what says so."""

    size_bytes: int
    source: str


@dataclass(frozen=True)
class ProcessMemory:
    """What this process uses: resident, resident for itself alone, and allocated by its heap (None: can't be told)."""

    rss_bytes: int
    uss_bytes: int
    heap_bytes: int | None
    python_blocks: int
    limit: Limit

    @property
    def used_share(self) -> float:
        """The resident part of the limit."""
        return self.rss_bytes / self.limit.size_bytes


@dataclass(frozen=True)
class BotMemory:
    """What a bot reports of itself: its heap (used, total now, limit) and its resident set size."""

    heap_used_bytes: int
    heap_total_bytes: int
    heap_limit_bytes: int
    rss_bytes: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InvalidInput(f"{name}: {value!r} is not a number of bytes")
        if not self.heap_limit_bytes:
            raise InvalidInput("heap_limit_bytes: 0; give v8.getHeapStatistics().heap_size_limit")

    @property
    def used_share(self) -> float:
        """The used part of the limit; what is used of the total is the garbage collector's business."""
        return self.heap_used_bytes / self.heap_limit_bytes


@dataclass(frozen=True)
class BotReport:
    """A bot's sample, and when it came."""

    memory: BotMemory
    reported_at: datetime


def measure(of_process: Path = OF_PROCESS, cgroups: Path = CGROUPS) -> ProcessMemory:
    """This process's memory now."""
    process = psutil.Process()
    usage = process.memory_full_info()
    return ProcessMemory(
        rss_bytes=usage.rss,
        uss_bytes=usage.uss,
        heap_bytes=_heap_bytes(),
        python_blocks=sys.getallocatedblocks(),
        limit=limit(of_process, cgroups, psutil.virtual_memory().total),
    )


def limit(of_process: Path, cgroups: Path, physical_bytes: int) -> Limit:
    """The smallest limit of the control groups that a process is in, version 2 or 1, else the machine's memory."""
    limits = [Limit(physical_bytes, "the machine's memory"), *_cgroup_limits(of_process, cgroups)]
    return min(limits, key=lambda found: found.size_bytes)


def report_memory(store: Upkeep, company_id: str, memory: BotMemory) -> None:
    """Takes what a company's bot reports. Raises what the store raises."""
    store.remember(f"{NOTES}{canonical_company(company_id)}", json.dumps(asdict(memory)))


def bot_reports(store: Upkeep, now: datetime) -> dict[str, BotReport]:
    """The latest sample of every bot, by company; forgets those a day old. Raises what the store raises."""
    reports = {}
    for name, note in store.notes(NOTES).items():
        if now - note.updated_at > KEPT_FOR:
            store.remember(name, None)
            continue
        try:
            memory = BotMemory(**json.loads(note.document))
        except (TypeError, ValueError):  # A later version's; InvalidInput is a ValueError.
            continue
        reports[name.removeprefix(NOTES)] = BotReport(memory, note.updated_at)
    return reports


def _heap_bytes() -> int | None:
    """What the C library's allocator has handed out, where psutil knows."""
    try:
        heap = psutil.heap_info()
    except (AttributeError, OSError):  # musl, an older glibc
        return None
    return int(heap.heap_used + heap.mmap_used)


def _cgroup_limits(of_process: Path, cgroups: Path) -> Iterator[Limit]:
    """Every limit on the way from the process's groups up to the root.

    In a container the paths may be the host's, and then only the root is there: the container's own group.
    """
    try:
        lines = of_process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, file, source = cgroups, "memory.max", "its control group (v2)"
        elif "memory" in controllers.split(","):
            root, file, source = cgroups / "memory", "memory.limit_in_bytes", "its control group (v1)"
        else:
            continue
        group = root / path.lstrip("/")
        while group.is_relative_to(root):
            size_bytes = _number_in(group / file)
            if size_bytes:
                yield Limit(size_bytes, source)
            group = group.parent


def _number_in(file: Path) -> int | None:
    """The number that stands in a file; None for "max", or no file."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
