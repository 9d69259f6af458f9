"""The entry point of Signal Keystore. It wires the parts of the service together.

`python run.py` serves; `python run.py --help` lists the commands.
"""

import gc
import os
import shlex
import socket
import sys
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import api.workers.light_imports  # noqa: F401  # before anything else imports the store
from api.access.tokens import announce_first_admin_token
from api.workers.config import WorkerConfig
from api.workers.supervisor import Workers, listen, require_usable
from commands import program
from commands.opening import opened_store
from keystore.invocation import program_name, set_program
from keystore.sql.store import SqlStore
from keystore.sqlite.link import SqliteLink
from monitor.alerts.outbox import Outbox, discard
from monitor.alerts.watch import Watch
from monitor.instances import Instance, InstanceNote
from monitor.telegram.bot import Bot
from monitor.telegram.chats import Chat, ServedChats
from monitor.telegram.sending import deliver_notice
from monitor.telegram.service_queries import ServiceQueries
from monitor.telegram.update_cursor import OffsetNote
from monitor.watch_settings import WatchSettings
from service.background import Background, upkeep_loop
from service.lifetime import Service
from settings import Settings, environment_of_workers

gc.freeze()
gc.enable()  # light_imports turned it off.


def wire(settings: Settings) -> Service:
    """Put the service together: store, upkeep, outbox, watch, Telegram bot, API. Raises KeystoreError."""
    settings.require_closed_http()
    cert, key = (None if path is None else str(path.absolute()) for path in (settings.tls_cert, settings.tls_key))
    if settings.http is not None and cert is not None and key is not None:
        require_usable(cert, key)
    listening = None if settings.http is None else listen(settings.http.host, settings.http.port)

    store = opened_store(settings, create=True)
    watch_settings = WatchSettings(
        sweep_every_s=settings.sweep_every_s,
        load_budget_ms=settings.load_budget_ms,
        memory_alert_percent=settings.memory_alert_percent,
        zone=settings.timezone,
        summary_at=settings.summary_at,
        version=version("signal-keystore"),
        name=settings.name,
        public_url=settings.public_url,
    )
    host = socket.gethostname()
    port = f"pid-{os.getpid()}" if listening is None else listening.getsockname()[1]
    instance = Instance(
        f"{host}:{port}", settings.name, host, watch_settings.version, datetime.now(UTC), settings.http_workers
    )

    upkeep = upkeep_loop(store, settings.sweep_every_s)
    telegram = None
    if settings.telegram_token is not None:
        from monitor.telegram.client import TelegramClient  # It imports requests, which nothing else needs.

        proxy = None if settings.telegram_proxy is None else settings.telegram_proxy.get_secret_value()
        telegram = TelegramClient(settings.telegram_token.get_secret_value(), settings.telegram_api_url, proxy)
    chats = [Chat(*chat) for chat in settings.telegram_chats]
    if telegram is None:
        outbox: Outbox[Chat] = Outbox(discard, ())
    else:
        served = ServedChats(chats, store, telegram.bot_id)
        outbox = Outbox(partial(deliver_notice, telegram, served), chats, zone=settings.timezone)
    watch = Watch(store, outbox, watch_settings)
    bot = None
    if telegram is not None:
        queries = ServiceQueries(store, watch_settings, watch, upkeep.stopping)
        bot = Bot(telegram, queries, served, OffsetNote(store, telegram.bot_id))

    api = token_file = None
    first_start = False
    if listening is not None:
        first_start = not store.tokens()
        if isinstance(store, SqlStore) and isinstance(store.link, SqliteLink):
            token_file = announce_first_admin_token(store, store.link.path)
        config = WorkerConfig(
            url=settings.url.get_secret_value(),
            guard=settings.guard,
            quota=settings.quota,
            connections=settings.connections,
            log=settings.log,
            sweep_every_s=settings.sweep_every_s,
            load_budget_ms=settings.load_budget_ms,
            requests_per_s=settings.http_rate,
            tls_cert=cert,
            tls_key=key,
            over_tls=cert is not None or settings.behind_proxy,
            version=watch_settings.version,
            program=program_name(),
            name=settings.name,
            zone=settings.timezone.key,
            address=instance.address,
            started_at=instance.started_at.timestamp(),
            secret_keys=settings.read_secret_keys(),
            admin_token_file=None if token_file is None else token_file.name,
        )
        api = Workers(listening, config, settings.http_workers, environment_of_workers())
    background = Background(upkeep, watch, outbox, telegram, bot, InstanceNote(store, instance))
    return Service(store, background, api, first_start, token_file)


if __name__ == "__main__":
    set_program(shlex.join(["python", sys.argv[0]]))
    sys.exit(program.run(wire))
