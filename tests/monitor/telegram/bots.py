"""Bots with ready answers that talk real HTTP to the fake Telegram. No wait of theirs takes time."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from keystore.errors import StoreUnavailable
from monitor.telegram.bot import Bot
from monitor.telegram.chats import Chat, ServedChats
from monitor.telegram.client import TelegramClient
from monitor.telegram.update_cursor import OffsetNote, SavedOffset
from rig.fixtures.telegram import CHAT, TOKEN, FakeTelegram
from rig.paths import PROJECT
from tests.monitor.sample_reports import SampleQueries

DEADLINE_S = 5.0
STOP_WITHIN_S = 5.0


class MemoryOffset(OffsetNote):
    """An offset kept in memory. While `database_down` is set, it raises as the database would."""

    def __init__(self, saved: SavedOffset | None = None) -> None:
        self.saved = saved
        self.database_down = False
        self.saves: list[int] = []
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def load(self) -> SavedOffset | None:
        self._require_database()
        return self.saved

    def save(self, update_id: int) -> None:
        self._require_database()
        self.saves.append(update_id)
        self.saved = SavedOffset(update_id, self.clock())

    def _require_database(self) -> None:
        if self.database_down:
            raise StoreUnavailable("the database is down")


class Waits:
    """A `wait` that returns at once and records the seconds. After `at_most` waits it tells the bot to stop."""

    def __init__(self, at_most: int | None = None) -> None:
        self.seconds: list[float] = []
        self._at_most = at_most
        self.over = threading.Event()

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        if self._at_most is not None and len(self.seconds) >= self._at_most:
            self.over.set()
        return self.over.is_set()


def bot_thread_runs() -> bool:
    """Return whether a bot's thread is alive in this process."""
    return any(thread.name == "telegram-bot" for thread in threading.enumerate())


@contextmanager
def running_bot(
    telegram: FakeTelegram,
    queries: SampleQueries,
    *,
    offset: OffsetNote | None = None,
    wait: Callable[[float], bool] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    chats: tuple[int, ...] = (CHAT,),
    token: str = TOKEN,
    poll_s: int = 15,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Bot]:
    """A bot that runs during the block, and must stop in time after it."""
    client = TelegramClient(token, telegram.url, deadline_s=deadline_s)
    served = ServedChats(map(Chat, chats))
    bot = Bot(client, queries, served, offset or MemoryOffset(), clock=clock, wait=wait or Waits(), poll_s=poll_s)
    assert bot.start()
    try:
        yield bot
    finally:
        assert bot.stop(STOP_WITHIN_S)
        client.close()
        assert not any(thread.name.startswith("telegram") for thread in threading.enumerate())


@contextmanager
def spawned_bot(telegram: FakeTelegram, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a bot on a store in this folder, during the block. It ends when its standard input closes."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.monitor.telegram.bot_process", str(folder / "k.db"), telegram.url],
            stdin=subprocess.PIPE,
            stderr=log,
            cwd=PROJECT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
