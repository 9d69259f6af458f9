"""A process with a bot on a store of its own: `telegram_worker FILE URL`, for the test of its memory."""

import sys
import threading

from keystore import open_store
from monitor.running.logs import configure
from monitor.telegram.api import TelegramApi
from monitor.telegram.bot import Bot
from monitor.telegram.service_queries import ServiceQueries
from monitor.telegram.update_cursor import offsets_in
from monitor.watch_settings import WatchSettings
from rig.fixtures.telegram import CHAT, TOKEN
from tests.monitor.sample_reports import StubWatch


def main(file: str, url: str) -> None:
    """Runs until nobody wants it any more."""
    configure("json", verbose=True)
    with open_store(f"sqlite:///{file}") as store:
        store.set("demo", {"session": {f"{n}": b"value" for n in range(50)}}, creds=b"{}")
        queries = ServiceQueries(store, WatchSettings(), StubWatch(), threading.Event())
        api = TelegramApi(TOKEN, url)
        bot = Bot(api, queries, (CHAT,), offsets_in(store, api.bot_id))
        bot.start()
        sys.stdin.read()
        bot.stop(5)
        api.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
