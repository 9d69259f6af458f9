"""Takes each request from its arrival to its answer, and gives it a thread only while Python code runs for it.

1. The token is checked first: in memory if it was seen lately, otherwise by a look-up.
2. The body is read by Granian's Rust part, piece by piece, within a time and within the memory of the token. No thread
   waits for it. A request without a known token gets no body read, except a small form.
3. The application runs when it is the request's turn (`turns.py`).
4. A large answer is sent in pieces, and counts as the token's memory until the client has it. A client that doesn't
   take it in time is cut off.

`/healthz` is answered at once, also while every thread waits for the database.
"""

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from io import BytesIO
from time import monotonic
from typing import Any

import structlog

from api import handover
from api.access.authentication import Authenticator
from api.access.rate_limit import RateLimit
from api.bodies import BODY_TIMEOUT_S, MAX_BODY_BYTES, body_too_large, body_too_late
from api.handover import BODY, CALLER, REFUSED, RESERVE_ANSWER
from api.problems import Problem, retry_after
from api.workers.descriptors import cut_connection
from api.workers.environ import environ_of
from api.workers.exchange import Exchange, Response, announced_bytes, charged_company
from api.workers.memory_budget import SMALL_BYTES, MemoryBudget
from api.workers.server import Connection, Pending, is_ended
from api.workers.turns import COMPANIES, LARGE, LOOKUPS, OPEN, SLOW, Turns, Work
from keystore.errors import KeystoreError
from keystore.records import TokenRecord

ALIVE = "/healthz"

MAX_OPEN_BODY_BYTES = 4_096
"""Size up to which a body is read on a route that needs no token: the form for a token."""

LARGE_BYTES = 1024 * 1024
"""Size from which a body or an answer runs in the lane of large ones."""

LARGE_ANSWERS_FOR_S = 60.0
"""Time for which the requests of a company run in that lane after a large answer to it."""

SLOW_FOR_S = 60.0
"""Time for which the requests of a company run in the lane of slow ones."""

MAX_NOTED_COMPANIES = 10_000

ANSWER_TIMEOUT_S = 60.0
"""Time for a client to take a large answer: 16 MiB at 2.5 Mbit/s."""

END_AFTER_S = 1.0
"""Time for a client to read that its body is refused, before its connection is cut."""

PIECE_BYTES = 32 * 1024
"""Size of the pieces in which a large answer is sent."""

BUSY_RETRY_S = 1.0
LOOK_EVERY_S = 0.5

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

log = structlog.get_logger()


@dataclass(frozen=True)
class _LargeAnswer:
    """A large answer, and the time until which the next ones are expected to be as large."""

    path: str
    size: int
    until: float


class Front:
    """Brings requests to a WSGI application. One for each worker, thread-safe."""

    def __init__(
        self,
        app: Wsgi,
        alive: Wsgi,
        authenticator: Authenticator,
        rate_limit: RateLimit,
        open_paths: Collection[str],
        *,
        behind_proxy: bool,
        budget: MemoryBudget | None = None,
    ) -> None:
        """`alive` answers `/healthz` at once; `open_paths` are those that need no token."""
        self._app = app
        self._alive = alive
        self._authenticator = authenticator
        self._rate_limit = rate_limit
        self._open_paths = open_paths
        self._behind_proxy = behind_proxy
        self._budget = budget or MemoryBudget()
        self._turns = Turns()
        self._lock = threading.Lock()
        self._reading: dict[Exchange, None] = {}
        """Requests whose body is being read, oldest first."""
        self._sending: dict[Exchange, None] = {}
        """Requests whose large answer is being sent, oldest first."""
        self._ending: dict[Exchange, None] = {}
        """Requests that were answered while their body was still coming, oldest first."""
        self._large_answers: dict[str, _LargeAnswer] = {}
        """The latest large answer to each company."""
        self._slow_companies: dict[str, float] = {}
        """Companies of which the database ended a request by its own limit, and the time until which they are slow."""
        threading.Thread(target=self._watch_deadlines, name="deadlines", daemon=True).start()

    def arrived(self, scope: Any, connection: Connection) -> None:
        """Begin with a request, in a Granian thread that must not be occupied for long."""
        environ = environ_of(scope, behind_proxy=self._behind_proxy)
        path = scope.path
        body_bytes = announced_bytes(environ)
        exchange = Exchange(connection, scope.client, path, environ, body_bytes)
        environ[RESERVE_ANSWER] = lambda size: self._reserve_answer(exchange, size)
        if path == ALIVE:
            self._run(exchange, self._alive)
        elif path in self._open_paths:
            exchange.lane = OPEN
            if body_bytes and body_bytes <= MAX_OPEN_BODY_BYTES:
                self._read(exchange)
            else:
                self._begin(exchange)
        else:
            self._authenticate(exchange)

    def _authenticate(self, exchange: Exchange) -> None:
        """Find the caller, and go on with `_admit`."""
        authorization, address = exchange.wsgi.get("HTTP_AUTHORIZATION"), exchange.wsgi["REMOTE_ADDR"]
        try:
            caller = self._authenticator.seen(authorization, address)
        except Problem as problem:
            exchange.wsgi[CALLER] = problem
            self._begin(exchange)
            return
        if caller is not None:
            self._admit(exchange, caller)
            return

        def look_up() -> Callable[[], None]:
            try:
                caller = self._authenticator.bearer(authorization, address)
            except (Problem, KeystoreError) as error:
                exchange.wsgi[CALLER] = error
                return lambda: self._begin(exchange)
            return lambda: self._admit(exchange, caller)

        if not self._turns.begin(Work(LOOKUPS, None, look_up)):
            self._refuse(exchange)

    def _admit(self, exchange: Exchange, caller: TokenRecord) -> None:
        """Count the request for its token, and read its body if it has one."""
        environ = exchange.wsgi
        environ[CALLER] = caller
        exchange.token_id = caller.token_id
        exchange.company = charged_company(caller, exchange.path)
        try:
            self._rate_limit.acquire(caller.token_id)
            exchange.admitted = True
        except Problem as problem:
            environ[REFUSED] = problem
            self._begin(exchange)
            return
        exchange.limited_companies = len(caller.companies)
        try:
            self._require_room(exchange)
        except Problem as problem:
            environ[REFUSED] = problem
            self._begin(exchange)
            return
        if exchange.body_bytes == 0:
            self._begin(exchange)
        elif exchange.body_bytes is not None and exchange.body_bytes > MAX_BODY_BYTES:
            environ[BODY] = body_too_large()
            self._begin(exchange)
        else:
            self._read(exchange)

    def _read(self, exchange: Exchange) -> None:
        """Read the body without a thread, and go on with `_begin`."""
        exchange.give_up_at = monotonic() + BODY_TIMEOUT_S
        with self._lock:
            self._reading[exchange] = None
        exchange.connection.__aiter__()
        self._read_more(exchange)

    def _read_more(self, exchange: Exchange) -> None:
        exchange.pending = pending = exchange.connection.__anext__()
        pending.add_done_callback(lambda pending: self._piece_arrived(exchange, pending))

    def _piece_arrived(self, exchange: Exchange, pending: Pending) -> None:
        """Take the next piece of a body; a Granian thread calls this, or the thread that gives up waiting."""
        exchange.pending = None  # It refers to the exchange, in a circle that no garbage collection would find.
        if pending.cancelled():
            self._turns.call_elsewhere(lambda: self._body_read(exchange, body_too_late()))
            return
        piece = pending.result()
        exchange.chunks.append(piece)
        exchange.arrived_bytes += len(piece)
        if not piece or exchange.arrived_bytes == exchange.body_bytes:
            self._body_read(exchange, None)
        elif exchange.arrived_bytes > MAX_BODY_BYTES:
            self._body_read(exchange, body_too_large())
        else:
            try:
                self._count(exchange)
            except Problem as problem:
                self._body_read(exchange, problem)
            else:
                self._read_more(exchange)

    def _count(self, exchange: Exchange) -> None:
        """Count what has arrived of a large body as memory of its token. Raises Problem (429, 503)."""
        uncounted = exchange.arrived_bytes - exchange.counted_bytes
        if exchange.arrived_bytes > SMALL_BYTES and uncounted:
            self._reserve(exchange.token_id, uncounted)
            exchange.counted_bytes += uncounted

    def _body_read(self, exchange: Exchange, problem: Problem | None) -> None:
        with self._lock:
            self._reading.pop(exchange, None)
        self._spend(exchange, exchange.arrived_bytes)
        if problem is None:
            try:
                self._count(exchange)
            except Problem as refused:
                problem = refused
        if problem is not None:
            exchange.wsgi[BODY] = problem
            exchange.chunks.clear()
            self._release_body(exchange)
            # Granian would read the rest of the body, however slowly it comes.
            exchange.ends = "Connection" in problem.headers
        elif exchange.arrived_bytes >= LARGE_BYTES:
            exchange.lane = LARGE
        self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        """Run the application, when it is the request's turn."""
        if exchange.lane is COMPANIES and self._slow_companies.get(exchange.company or "", 0.0) > monotonic():
            exchange.lane = SLOW
        if not self._turns.begin(Work(exchange.lane, exchange.company, lambda: self._run(exchange, self._app))):
            self._refuse(exchange)

    def _run(self, exchange: Exchange, app: Wsgi) -> None:
        """Run the application in this thread, and send its answer."""
        environ, chunks = exchange.wsgi, exchange.chunks
        if chunks:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            environ[BODY] = body
            if exchange.lane is OPEN:
                environ["wsgi.input"] = BytesIO(body)
        response = Response()
        try:
            answer = b"".join(app(environ, response))
        except Exception as error:  # noqa: BLE001  the edge of the request: its client gets an answer
            log.error("request_not_answered", error=type(error).__name__)
            response, answer = Response(500), b""
        finally:
            if exchange.company is not None and handover.SLOW in environ:
                self._remember_slow(exchange.company)
            environ.clear()
            self._release_body(exchange)
            if exchange.admitted:
                self._rate_limit.release(exchange.token_id)
        self._send(exchange, response, answer)

    def _send(self, exchange: Exchange, response: Response, answer: bytes) -> None:
        if not exchange.answer_bytes:
            exchange.connection.response_bytes(response.status, response.headers, answer)
            if exchange.ends:
                exchange.give_up_at = monotonic() + END_AFTER_S
                with self._lock:
                    self._ending[exchange] = None
            return
        if exchange.company is not None and exchange.answer_bytes >= LARGE_BYTES:
            self._remember_large(exchange.company, exchange.path, exchange.answer_bytes)
        exchange.stream = stream = exchange.connection.response_stream(response.status, response.headers)
        for start in range(0, len(answer), PIECE_BYTES):
            stream.send_bytes(answer[start : start + PIECE_BYTES])
        exchange.give_up_at = monotonic() + ANSWER_TIMEOUT_S
        with self._lock:
            self._sending[exchange] = None

    def _forget_sent(self) -> None:
        """Stop counting the large answers that are sent, or whose client is gone."""
        with self._lock:
            ended = [exchange for exchange in self._sending if exchange.stream is None or is_ended(exchange.stream)]
            for exchange in ended:
                del self._sending[exchange]
        for exchange in ended:
            exchange.stream = None
            self._budget.release(exchange.token_id, exchange.answer_bytes)

    def _reserve(self, token_id: str, size: int) -> None:
        """Count memory of a token. Raises Problem (429, 503)."""
        try:
            self._budget.reserve(token_id, size)
        except Problem:
            self._forget_sent()
            self._budget.reserve(token_id, size)

    def _reserve_answer(self, exchange: Exchange, size: int) -> None:
        """Count a large answer. Raises Problem (429, 503); then it must not be sent."""
        if size > SMALL_BYTES:
            self._release_body(exchange)
            self._spend(exchange, size)
            self._reserve(exchange.token_id, size)
            exchange.answer_bytes = size

    def _release_body(self, exchange: Exchange) -> None:
        if exchange.counted_bytes:
            self._budget.release(exchange.token_id, exchange.counted_bytes)
            exchange.counted_bytes = 0

    def _remember_slow(self, company: str) -> None:
        if len(self._slow_companies) >= MAX_NOTED_COMPANIES:
            self._slow_companies = {}
        self._slow_companies[company] = monotonic() + SLOW_FOR_S

    def _remember_large(self, company: str, path: str, size: int) -> None:
        if len(self._large_answers) >= MAX_NOTED_COMPANIES:
            self._large_answers = {}
        self._large_answers[company] = _LargeAnswer(path, size, monotonic() + LARGE_ANSWERS_FOR_S)

    def _require_room(self, exchange: Exchange) -> None:
        """Count an answer that was large a moment ago, before it is made again. Raises Problem (429, 503).

        A token that has no allowance left for large bodies and answers gets no body read either.
        """
        latest = self._large_answers.get(exchange.company or "") if self._large_answers else None
        expected_bytes = 0
        if latest is not None and latest.until > monotonic():
            exchange.lane = LARGE
            if exchange.body_bytes == 0 and exchange.path == latest.path:
                expected_bytes = latest.size
        body_bytes = SMALL_BYTES + 1 if exchange.body_bytes is None else exchange.body_bytes
        if exchange.limited_companies and max(body_bytes, expected_bytes) > SMALL_BYTES:
            self._budget.require_allowance(exchange.token_id, exchange.limited_companies)
        if expected_bytes:
            self._reserve(exchange.token_id, expected_bytes)
            exchange.counted_bytes = expected_bytes

    def _spend(self, exchange: Exchange, size: int) -> None:
        if exchange.limited_companies and size > SMALL_BYTES:
            self._budget.spend(exchange.token_id, exchange.limited_companies, size)

    def _refuse(self, exchange: Exchange) -> None:
        """Answer that too many requests wait already."""
        problem = Problem("busy", "too many requests are in progress; try again", retry_after(BUSY_RETRY_S))
        exchange.wsgi[REFUSED] = problem
        self._run(exchange, self._app)

    def _watch_deadlines(self) -> None:
        """Give up on bodies that don't arrive in time, and on clients that don't take their answer."""
        while True:
            threading.Event().wait(LOOK_EVERY_S)
            for exchange in self._overdue(self._reading):
                pending = exchange.pending
                if pending is not None:
                    pending.cancel()
            self._forget_sent()
            for exchange in self._overdue(self._sending):
                cut_connection(exchange.client)
            for exchange in self._overdue(self._ending):
                cut_connection(exchange.client)
                with self._lock:
                    del self._ending[exchange]

    def _overdue(self, exchanges: dict[Exchange, None]) -> list[Exchange]:
        now, overdue = monotonic(), []
        with self._lock:
            for exchange in exchanges:
                if exchange.give_up_at > now:
                    break
                overdue.append(exchange)
        return overdue
