"""The bot's process doesn't grow, whatever it is sent: 100,000 updates through a process of its own."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from rig.fixtures.clock import eventually
from rig.fixtures.telegram import CHAT, FakeTelegram
from tests.monitor.telegram.bots import worker_at

UPDATES = 100_000
BATCH = 100
WARM_UP = 20_000
MAY_GROW_BYTES = 2_000_000
"""Kept updates would be 80,000 × 1 kB; an allocator's own ups and downs stay below this."""


def batch(first: int, now: int) -> list[Any]:
    """A hundred updates: a few commands, a stranger, what is too old or nonsense, and much that concerns nobody."""
    private, group = {"id": CHAT, "type": "private"}, {"id": CHAT, "type": "group"}

    def message(text: str, **more: Any) -> dict[str, Any]:
        return {"message": {"message_id": 1, "date": now, "chat": private, "text": text, **more}}

    return [
        message(("/types", "/db_health", "/start", "/status", "/sweep")[first // BATCH % 5]),
        message("/frobnicate"),
        message("/types", date=now - 400),
        message("/types", chat={"id": -first - 1, "type": "private"}),
        {"callback_query": {"id": f"q{first}", "data": "sweep:guess", "message": {"chat": private, "date": 0}}},
        {"callback_query": {"id": f"r{first}", "data": "x" * 60, "message": {"chat": private, "date": 0}}},
        *({"edited_message": message(f"/types {first + n}")["message"]} for n in range(40)),
        *(message(f"hello {first + n} " + "word " * 40, chat=group) for n in range(40)),
        *({"poll": {"id": f"{first + n}", "question": "?" * 200}} for n in range(14)),
    ]


@pytest.mark.timeout(300)
def test_memory_stays_flat_over_a_hundred_thousand_updates(telegram: FakeTelegram, tmp_path: Path) -> None:
    now = int(telegram.clock().timestamp())
    with worker_at(telegram, tmp_path) as worker:
        process = psutil.Process(worker.pid)
        uss: dict[int, int] = {}
        sent = 0
        for first in range(0, UPDATES, BATCH):
            numbers = telegram.push_all(batch(first, now))
            assert len(numbers) == BATCH
            eventually(lambda: telegram.pending == 0, f"the updates from {first} on are confirmed", 30)
            sent += len(telegram.sent)
            telegram.sent.clear()
            telegram.offsets.clear()
            if (first + BATCH) % WARM_UP == 0:
                uss[first + BATCH] = process.memory_full_info().uss
        assert sent == 3 * UPDATES // BATCH, "a command, an unknown one and a stale question are answered in each"
        grown = {after: bytes_then - uss[WARM_UP] for after, bytes_then in uss.items()}
        print(f"\nunique set size {uss[WARM_UP]:,} bytes, grown by {grown}")  # noqa: T201  shown with -s: the figures
        assert max(grown.values()) < MAY_GROW_BYTES
        assert process.num_threads() <= 12
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(10) == 0
