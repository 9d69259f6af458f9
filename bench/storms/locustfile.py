"""A storm for locust: companies reconnect within some seconds, and then send messages steadily.

Each user is a company with creds and the 721 real keys. A reconnect reads all of them and writes a burst of 250
pre-keys; a message gets a session and sets it changed; every 50th message uses up a pre-key. The store runs in this
process, or with `--http` behind the API of a service of its own. (gevent, which locust uses, patches blocking calls;
psycopg cooperates with it.)

Without an address the storm runs a Postgres of its own. A database of yours may hold no other companies than those of a
killed storm, and is empty again afterwards. Exits with 1 when a request failed, when a company didn't reconnect, or
when the 95th percentile of `reconnect` is over the budget.
"""

import atexit
import logging
import math
import random
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import count, cycle
from pathlib import Path

from locust import LoadTestShape, User, events, poisson, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner, Runner

from bench.command import in_range, postgres_address
from bench.storms.companies import CONSUME_EVERY, MESSAGE_EVERY_S, Bot, reconnect, state
from bench.storms.http_client import HttpBot
from keystore.errors import InvalidInput, KeystoreError
from keystore.opening import open_store
from keystore.store import Store
from monitor.running.progress import progress_bar
from rig.postgres_server import own_postgres
from rig.program import new_token, serving_database

STOP_WITHIN_S = 10.0
"""The time for calls that are running at the end."""

PREFIX = "storm-"
"""The prefix of the names of a storm's companies."""

log = logging.getLogger("storm")


def above_zero(text: str) -> float:
    """A number of seconds or milliseconds, for argparse."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ArgumentTypeError("it is a number above 0")
    return number


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add the storm's options to locust's own."""
    parser.add_argument(
        "--keystore-url",
        metavar="URL",
        include_in_web_ui=False,
        help="the database's address (if it has a password, use --keystore-url-file: process lists show command lines)",
    )
    parser.add_argument(
        "--keystore-url-file", type=Path, metavar="FILE", include_in_web_ui=False, help="a file with the address"
    )
    parser.add_argument("--http", action="store_true", help="over the HTTP API of a `run.py` of its own")
    parser.add_argument("--companies", type=in_range(int, 1), default=200, help="number of companies (200)")
    parser.add_argument("--reconnect-within", type=above_zero, default=10.0, metavar="S", help="seconds (10)")
    parser.add_argument("--steady-for", type=above_zero, default=30.0, metavar="S", help="seconds after that (30)")
    parser.add_argument("--budget-ms", type=above_zero, default=750.0, metavar="MS", help="for a reconnect's p95 (750)")


class Storm(LoadTestShape):
    """All companies reconnect within the first period, stay for the second, and then the storm is over."""

    def tick(self) -> tuple[int, float] | None:
        """The number of companies to run, and of those that start each second."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        if self.get_run_time() > options.reconnect_within + options.steady_for:
            return None
        return options.companies, options.companies / options.reconnect_within


class Company(User):
    """One account: reconnects, and then sends messages."""

    client: Bot
    """The store in this process, or the API; all companies share it."""

    over: str
    """`store` or `http`, as the table of requests shows it."""

    names: Iterator[str]
    """The names of the companies that have not started yet."""

    messages = count(1)
    """The counter of all companies' messages."""

    ended = False
    """True once the run has ended: a call that begins then could be killed halfway, and its connection lost."""

    wait_time = poisson(1 / MESSAGE_EVERY_S)

    def on_start(self) -> None:
        """Reconnect."""
        if self.ended:
            return
        self.name = next(self.names)
        self.sessions = list(state().keys["session"])
        self.pre_keys = cycle(state().keys["pre-key"])
        with events.request.measure(self.over, "reconnect") as request:
            loaded = reconnect(self.client, self.name)
            if loaded != state():
                raise KeystoreError("what was read is not what was written")
            request["response_length"] = sum(len(value) for by_id in loaded.keys.values() for value in by_id.values())

    @task
    def message(self) -> None:
        """Read a session and write it back changed; one message in 50 also uses up a pre-key."""
        if self.ended:
            raise StopUser
        session, value = random.choice(self.sessions), b""
        with events.request.measure(self.over, "get") as request:
            value = self.client.get(self.name, "session", [session])[session]
            request["response_length"] = len(value)
        if value:
            with events.request.measure(self.over, "set"):
                self.client.set(self.name, {"session": {session: changed(value)}})
        if next(self.messages) % CONSUME_EVERY == 0:
            with events.request.measure(self.over, "consume"):
                self.client.set(self.name, {"pre-key": {next(self.pre_keys): None}})


def changed(session: bytes) -> bytes:
    """The session with other bytes, and still a JSON object, which the API requires."""
    return session[:-2] + b"}" if session.endswith(b" }") else session[:-1] + b" }"


@events.init.add_listener
def prepare(environment: Environment, runner: Runner, **_: object) -> None:
    """Open the store and fill it with the companies, before the time begins to count."""
    options = environment.parsed_options
    assert options is not None
    if not options.headless or not isinstance(runner, LocalRunner):
        sys.exit("error: this storm runs with --headless and in one process")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Like Ctrl-C: locust handles it only after the run.
    logging.getLogger("yoyo").setLevel(logging.WARNING)  # It would log each step of each migration.
    environment.stop_timeout = environment.stop_timeout or STOP_WITHIN_S
    names = [f"{PREFIX}{number}" for number in range(options.companies)]
    with ExitStack() as stack:
        try:
            file: Path | None = options.keystore_url_file
            url = file.read_text(encoding="utf-8").strip() if file else options.keystore_url
            url = stack.enter_context(own_postgres()) if url is None else postgres_address(url)
            store = stack.enter_context(open_store(url))
            _empty(store)
            stack.callback(_empty_again, store)
            with progress_bar("companies filled") as progress:
                for number, name in enumerate(names):
                    progress(number, len(names))
                    store.set(name, state().keys, creds=state().creds)
            Company.client, Company.over, Company.names = store, "store", iter(names)
            if options.http:
                service = stack.enter_context(serving_database(url, KEYSTORE_HTTP_RATE="off"))
                bot = stack.enter_context(closing(HttpBot(service.url, new_token(url))))
                Company.client, Company.over = bot, "http"
        except (ArgumentTypeError, KeystoreError, OSError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
        log.info("%d companies filled in %s", len(names), store.database)
        atexit.register(stack.pop_all().close)


def _empty(store: Store) -> None:
    """Clear the companies of a storm. Raises InvalidInput if there are others."""
    companies = store.companies()
    others = [name for name in companies if not name.startswith(PREFIX)]
    if others:
        raise InvalidInput(
            f"{store.database}: not empty, it holds companies ({len(others)}); name a database for this storm alone"
        )
    for name in companies:
        store.clear(name)


def _empty_again(store: Store) -> None:
    try:
        _empty(store)
    except KeystoreError as error:
        log.error("the companies of the storm are still there: %s", error)


@events.test_stopping.add_listener
def stop_calling(**_: object) -> None:
    """Keep companies from beginning further calls."""
    Company.ended = True


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """Log the failures of the run, and make locust exit with 1 if there are any."""
    options = environment.parsed_options
    assert options is not None
    reconnects = environment.stats.get("reconnect", Company.over)
    p95_ms = reconnects.get_response_time_percentile(0.95)
    failures = []
    if environment.stats.total.num_failures:
        failures.append(f"requests failed: {environment.stats.total.num_failures}")
    if reconnects.num_requests < options.companies:
        failures.append(f"{reconnects.num_requests} of {options.companies} companies reconnected")
    if p95_ms > options.budget_ms:
        failures.append(f"p95 of reconnect is {p95_ms:g} ms, the budget {options.budget_ms:g} ms")
    for failure in failures:
        log.error("%s", failure)
        environment.process_exit_code = 1
