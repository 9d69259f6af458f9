"""A bot's process that is killed after a command ran, before Telegram was told: the next one doesn't run it again."""

import signal
from pathlib import Path

from rig.fixtures.clock import eventually
from rig.fixtures.telegram import CHAT, Failure, FakeTelegram
from tests.monitor.telegram.bots import worker_at


def test_no_command_runs_twice_even_after_a_kill(telegram: FakeTelegram, tmp_path: Path) -> None:
    now = int(telegram.clock().timestamp())
    names = ("/types", "/status", "/start")
    telegram.push_all([{"message": {"date": now, "chat": {"id": CHAT}, "text": name}} for name in names])
    # The first poll gets through; what would confirm its updates never does.
    telegram.script = lambda method: Failure.RESET_BEFORE if method == "getUpdates" and telegram.offsets else None
    with worker_at(telegram, tmp_path) as worker:
        eventually(lambda: len(telegram.texts()) == 3, "three answers")
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
    assert telegram.pending == 3, "Telegram would send all of them again"
    telegram.script = lambda method: None
    with worker_at(telegram, tmp_path) as worker:
        telegram.say("/db_health")
        eventually(lambda: telegram.idle and len(telegram.texts()) >= 4, "one answer more")
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(10) == 0
    assert len(telegram.texts()) == 4
    assert "total" in telegram.texts()[-1]
