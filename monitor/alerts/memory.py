"""Memory left to this process, measured against its real limit, and to bots, by their reports.

The original operator's alert compared a heap's used part with its *total*. A garbage collector keeps those near each
other, so the alert fired every 15 minutes at 83 %. A process ends at its *limit*: everything here is compared with
that. The breakdown beside it tells a leak from a full cache.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from keystore.errors import InvalidInput
from keystore.ids import canonical_company
from keystore.upkeep import Upkeep
from monitor.note_names import BOT_MEMORY
from monitor.recent_notes import recent_notes
from monitor.reports.formatting import size

FORGOTTEN_AFTER = timedelta(days=1)
"""Age at which the last report of a bot that stopped reporting is forgotten."""

OF_PROCESS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limit:
    """The size at which a process's memory ends, and where that limit comes from."""

    size_bytes: int
    source: str


@dataclass(frozen=True)
class ProcessMemory:
    """Memory of this process: resident, resident for itself alone, and allocated by its heap (None where unknown)."""

    rss_bytes: int
    uss_bytes: int
    heap_bytes: int | None
    limit: Limit

    @property
    def used_share(self) -> float:
        """The resident part of the limit."""
        return self.rss_bytes / self.limit.size_bytes

    @property
    def in_words(self) -> str:
        """The resident part and the limit, for a message."""
        return f"{size(self.rss_bytes)} of {size(self.limit.size_bytes)} ({self.used_share:.0%})"


@dataclass(frozen=True)
class BotMemory:
    """A bot's heap (used, total now, limit) and its resident set size."""

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
        """The used part of the limit; the used part of the total only depends on the garbage collector."""
        return self.heap_used_bytes / self.heap_limit_bytes

    @property
    def in_words(self) -> str:
        """The heap and its limit, and the resident set size, for a message."""
        return (
            f"heap {size(self.heap_used_bytes)} of its limit {size(self.heap_limit_bytes)} ({self.used_share:.0%}), "
            f"{size(self.rss_bytes)} resident"
        )


@dataclass(frozen=True)
class BotReport:
    """A bot's memory, and the time of the report."""

    memory: BotMemory
    reported_at: datetime


def measure() -> ProcessMemory:
    """This process's memory now."""
    usage = psutil.Process().memory_full_info()
    smallest_limit = limit(OF_PROCESS, CGROUPS, psutil.virtual_memory().total)
    return ProcessMemory(usage.rss, usage.uss, _heap_bytes(), smallest_limit)


def limit(of_process: Path, cgroups: Path, physical_bytes: int) -> Limit:
    """The smallest limit of the control groups that a process is in (version 2 or 1), else the machine's memory."""
    limits = [Limit(physical_bytes, "the machine's memory"), *_cgroup_limits(of_process, cgroups)]
    return min(limits, key=lambda each: each.size_bytes)


def report_memory(store: Upkeep, company_id: str, memory: BotMemory) -> None:
    """Store the report of a company's bot. Raises what the store raises."""
    store.remember(f"{BOT_MEMORY}{canonical_company(company_id)}", json.dumps(asdict(memory)))


def forget_bot(store: Upkeep, company_id: str) -> None:
    """Forget a bot that was closed: no heartbeat of it is missed from now on. Raises what the store raises."""
    store.remember(f"{BOT_MEMORY}{canonical_company(company_id)}", None)


def bot_reports(store: Upkeep, now: datetime) -> dict[str, BotReport]:
    """The latest report of every bot, by company; forgets those a day old. Raises what the store raises."""
    reports = {}
    for company_id, note in recent_notes(store, BOT_MEMORY, now, FORGOTTEN_AFTER):
        try:
            memory = BotMemory(**json.loads(note.document))
        except (TypeError, ValueError):  # A later version wrote it; InvalidInput is a ValueError.
            continue
        reports[company_id] = BotReport(memory, note.updated_at)
    return reports


def _heap_bytes() -> int | None:
    """The bytes that the C library's allocator has handed out; None where psutil doesn't know."""
    try:
        heap = psutil.heap_info()
    except (AttributeError, OSError):  # musl, an older glibc
        return None
    return int(heap.heap_used + heap.mmap_used)


def _cgroup_limits(of_process: Path, cgroups: Path) -> Iterator[Limit]:
    """Every limit on the way from the process's groups up to the root.
    In a container the paths may be the host's. Then only the root exists: the container's own group."""
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
            with suppress(OSError, ValueError):  # There is no such file, or it says "max".
                if size_bytes := int((group / file).read_text(encoding="utf-8")):
                    yield Limit(size_bytes, source)
            group = group.parent
