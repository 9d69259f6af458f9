"""A process with a bot on its own store: `bot_process FILE TELEGRAM_URL`, for the tests of memory and kills."""

import sys
import threading

from keystore import open_store
from monitor.running.logs import configure
from monitor.telegram.bot import Bot
from monitor.telegram.chats import Chat, ServedChats
from monitor.telegram.client import TelegramClient
from monitor.telegram.service_queries import ServiceQueries
from monitor.telegram.update_cursor import OffsetNote
from monitor.watch_settings import WatchSettings
from rig.fixtures.telegram import CHAT, TOKEN
from tests.monitor.sample_reports import StubWatch


def main(file: str, url: str) -> None:
    """Run until standard input is closed."""
    configure("json", verbose=True)
    with open_store(f"sqlite:///{file}") as store:
        store.set("demo", {"session": {f"{n}": b"value" for n in range(50)}}, creds=b"{}")
        queries = ServiceQueries(store, WatchSettings(), StubWatch(), threading.Event())
        client = TelegramClient(TOKEN, url)
        bot = Bot(client, queries, ServedChats([Chat(CHAT)], store), OffsetNote(store, client.bot_id))
        bot.start()
        sys.stdin.read()
        bot.stop(5)
        client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
