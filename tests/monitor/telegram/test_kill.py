"""A bot's process is killed after a command ran and before Telegram learned it: the next process doesn't run it."""

import signal
from pathlib import Path

import pytest

from rig.fixtures.telegram import CHAT, Failure, FakeTelegram
from rig.waiting import eventually
from tests.monitor.telegram.bots import spawned_bot

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bots")]


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
