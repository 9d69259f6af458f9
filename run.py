"""The entry point of Signal Keystore. It wires the parts of the service together.

`python run.py` serves; `python run.py --help` lists the commands.
"""

import sys
from functools import partial
from importlib.metadata import version

from api.access.tokens import announce_first_admin_token
from api.workers.config import Tls, WorkerConfig
from api.workers.listening import Address, listen, require_usable
from api.workers.supervisor import Workers
from commands import program
from keystore.opening import open_store
from keystore.sqlite.store import SqliteStore
from monitor.alerts.outbox import Outbox, discard
from monitor.alerts.watch import Watch
from monitor.telegram.bot import Bot
from monitor.telegram.client import TelegramClient
from monitor.telegram.sending import deliver_notice
from monitor.telegram.service_queries import ServiceQueries
from monitor.telegram.update_cursor import OffsetNote
from monitor.watch_settings import WatchSettings
from service.background import Background, upkeep_loop
from service.lifetime import Service
from settings import Settings, environment_of_workers


def wire(settings: Settings) -> Service:
    """Put the service together: store, upkeep, outbox, watch, Telegram bot, API. Raises KeystoreError."""
    settings.require_closed_http()
    tls = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = Tls(str(settings.tls_cert.absolute()), str(settings.tls_key.absolute()))
    if settings.http is not None and tls is not None:
        require_usable(tls)
    listening = None if settings.http is None else listen(Address(settings.http.host, settings.http.port))

    url = settings.url.get_secret_value()
    store = open_store(url, policy=settings.ttl, guard=settings.guard, max_connections=settings.connections)
    watch_settings = WatchSettings(
        sweep_every_s=settings.sweep_every_s,
        load_budget_ms=settings.load_budget_ms,
        memory_alert_percent=settings.memory_alert_percent,
        zone=settings.timezone,
        summary_at=settings.summary_at,
        version=version("signal-keystore"),
    )

    upkeep = upkeep_loop(store, settings.sweep_every_s)
    telegram = None
    if settings.telegram_token is not None:
        telegram = TelegramClient(settings.telegram_token.get_secret_value(), settings.telegram_api_url)
    deliver, chats = (discard, ()) if telegram is None else (partial(deliver_notice, telegram), settings.telegram_chats)
    outbox = Outbox(deliver, chats, zone=settings.timezone)
    watch = Watch(store, outbox, watch_settings)
    bot = None
    if telegram is not None:
        queries = ServiceQueries(store, watch_settings, watch, upkeep.stopping)
        bot = Bot(telegram, queries, chats, OffsetNote(store, telegram.bot_id))

    api = None
    if listening is not None:
        if isinstance(store, SqliteStore):
            announce_first_admin_token(store, store.link.path)
        config = WorkerConfig(
            url=url,
            policy=settings.ttl,
            guard=settings.guard,
            connections=settings.connections,
            log=settings.log,
            sweep_every_s=settings.sweep_every_s,
            load_budget_ms=settings.load_budget_ms,
            requests_per_s=settings.http_rate,
            tls=tls,
            over_tls=tls is not None or settings.behind_proxy,
            version=watch_settings.version,
        )
        api = Workers(listening, config, settings.http_workers, environment_of_workers())
    return Service(store, Background(upkeep, watch, outbox, telegram, bot), api)


if __name__ == "__main__":
    sys.exit(program.run(wire))
