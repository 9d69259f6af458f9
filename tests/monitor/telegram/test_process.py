"""The bot as a process of its own: it runs nothing twice after a kill, and many thousand updates don't make it grow.

A kill comes after a command ran and before Telegram learned it.
"""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from rig.fixtures.telegram import CHAT, Failure, FakeTelegram
from rig.waiting import eventually
from tests.monitor.telegram.bots import spawned_bot

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("telegram_process")]

UPDATES = int(os.environ.get("KEYSTORE_TEST_UPDATES", "20000"))
"""A soak sets it to 100,000 or more."""

BATCH = 100
WARM_UP = 10_000
MOST_GROWTH_BYTES = 2_000_000
"""Largest growth after the warm-up. Leaked updates would be 10,000 × 1 kB; the allocator alone stays below this."""


def batch(first: int, now: int) -> list[Any]:
    """A hundred updates: commands, a stranger, expired and unknown ones, and many that don't concern the bot."""
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
def test_memory_stays_flat_over_many_updates(telegram: FakeTelegram, tmp_path: Path) -> None:
    now = int(telegram.clock().timestamp())
    with spawned_bot(telegram, tmp_path) as spawned:
        process = psutil.Process(spawned.pid)
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
        print(f"\nunique set size {uss[WARM_UP]:,} bytes, grown by {grown}")  # noqa: T201  the figures, shown with -s
        assert max(grown.values()) < MOST_GROWTH_BYTES
        assert process.num_threads() <= 12
        assert spawned.stdin is not None
        spawned.stdin.close()
        assert spawned.wait(10) == 0


def test_no_command_runs_twice_even_after_a_kill(telegram: FakeTelegram, tmp_path: Path) -> None:
    now = int(telegram.clock().timestamp())
    names = ("/types", "/status", "/start")
    telegram.push_all([{"message": {"date": now, "chat": {"id": CHAT}, "text": name}} for name in names])
    # The first poll succeeds. The one that would confirm its updates never does.
    telegram.script = lambda method: Failure.RESET_BEFORE if method == "getUpdates" and telegram.offsets else None
    with spawned_bot(telegram, tmp_path) as process:
        eventually(lambda: len(telegram.texts()) == 3, "three answers")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert telegram.pending == 3, "Telegram would send all of them again"
    telegram.script = lambda method: None
    with spawned_bot(telegram, tmp_path) as process:
        telegram.say("/db_health")
        eventually(lambda: telegram.idle and len(telegram.texts()) >= 4, "one answer more")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
    assert len(telegram.texts()) == 4
    assert "total" in telegram.texts()[-1]
