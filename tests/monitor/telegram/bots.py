"""A bot at a made-up desk, talking real HTTP to the tests' Telegram; no wait of it takes time."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from keystore.errors import StoreUnavailable
from monitor.telegram.api import TelegramApi
from monitor.telegram.bot import Bot
from monitor.telegram.update_cursor import Offsets, SavedOffset
from rig.fixtures.telegram import CHAT, TOKEN, FakeTelegram
from rig.paths import PROJECT
from tests.monitor.sample_reports import SampleQueries

DEADLINE_S = 5.0
STOP_WITHIN_S = 5.0


class Kept:
    """An offset that is kept, as the database does; `away` while it isn't there."""

    def __init__(self, saved: SavedOffset | None = None) -> None:
        self.saved = saved
        self.away = False
        self.saves: list[int] = []
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def offsets(self) -> Offsets:
        """For a bot."""
        return Offsets(self._load, self._save)

    def _load(self) -> SavedOffset | None:
        self._there()
        return self.saved

    def _save(self, update_id: int) -> None:
        self._there()
        self.saves.append(update_id)
        self.saved = SavedOffset(update_id, self.clock())

    def _there(self) -> None:
        if self.away:
            raise StoreUnavailable("the database is away")


class Waits:
    """Passes time in no time, and writes down how much; tells the bot to stop after `at_most` waits."""

    def __init__(self, at_most: int | None = None) -> None:
        self.seconds: list[float] = []
        self._at_most = at_most
        self.over = threading.Event()

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        if self._at_most is not None and len(self.seconds) >= self._at_most:
            self.over.set()
        return self.over.is_set()


@contextmanager
def bot_at(
    telegram: FakeTelegram,
    asked: SampleQueries,
    *,
    kept: Kept | None = None,
    wait: Callable[[float], bool] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    chats: tuple[int, ...] = (CHAT,),
    token: str = TOKEN,
    poll_s: int = 15,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Bot]:
    """A bot that runs for the block, and is gone in time after it."""
    api = TelegramApi(token, telegram.url, deadline_s=deadline_s)
    bot = Bot(api, asked, chats, (kept or Kept()).offsets(), clock=clock, wait=wait or Waits(), poll_s=poll_s)
    assert bot.start()
    try:
        yield bot
    finally:
        assert bot.stop(STOP_WITHIN_S)
        api.close()
        assert not any(thread.name.startswith("telegram") for thread in threading.enumerate())


@contextmanager
def worker_at(telegram: FakeTelegram, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a bot on the store in this folder, for the block; it ends by itself when its stdin does."""
    with (folder / "log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.monitor.telegram.worker", str(folder / "k.db"), telegram.url],
            stdin=subprocess.PIPE,
            stderr=log,
            cwd=PROJECT,
        )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()
