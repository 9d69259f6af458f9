"""Telegram's Bot API on loopback, over real HTTP: `TelegramApi(telegram.token, telegram.url)`.

What it knows of the protocol is what the bot relies on: updates are kept until a later offset is asked for, a poll is
held open, messages are read as HTML and counted in UTF-16 units, and refusals come with Telegram's own words. A
`script` says which calls fail, and how: as Telegram does, as what stands in front of it does, or as a network does.
"""

import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from enum import Enum, auto
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any

import pytest

TOKEN = "123456789:AAF-made_up_for_the_tests_0123456789abc"
USERNAME = "keystore_bot"
CHAT = 4_711
LONGEST_HOLD_S = 20.0
DRIP_S = 0.02
JOIN_TIMEOUT_S = 10.0

_TAGS = {"b", "i", "u", "s", "a", "code", "pre"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Failure(Enum):
    """One way for a call to fail."""

    TOO_MANY = auto()
    SERVER_ERROR = auto()
    BAD_GATEWAY = auto()
    GARBAGE = auto()
    DEEP = auto()
    NONSENSE = auto()
    HUGE = auto()
    DRIPPED_HEADERS = auto()
    DRIPPED_BODY = auto()
    HANGING = auto()
    RESET_BEFORE = auto()
    RESET_AFTER = auto()
    CONFLICT = auto()
    UNAUTHORIZED = auto()
    NOT_FOUND = auto()
    FORBIDDEN = auto()
    REDIRECT = auto()
    ODD_HEADERS = auto()


PASSING = (
    Failure.TOO_MANY,
    Failure.SERVER_ERROR,
    Failure.BAD_GATEWAY,
    Failure.GARBAGE,
    Failure.DRIPPED_HEADERS,
    Failure.DRIPPED_BODY,
    Failure.RESET_BEFORE,
    Failure.RESET_AFTER,
)
"""Those that any call may meet and that pass by themselves."""

RETRY_AFTER_S = 3
_REFUSALS: dict[Failure, tuple[int, str]] = {
    Failure.TOO_MANY: (429, f"Too Many Requests: retry after {RETRY_AFTER_S}"),
    Failure.SERVER_ERROR: (500, "Internal Server Error"),
    Failure.CONFLICT: (
        409,
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    ),
    Failure.UNAUTHORIZED: (401, "Unauthorized"),
    Failure.NOT_FOUND: (404, "Not Found"),
    Failure.FORBIDDEN: (403, "Forbidden: bot was blocked by the user"),
}
_BODIES: dict[Failure, tuple[int, bytes]] = {
    Failure.BAD_GATEWAY: (502, b"<html><body><h1>502 Bad Gateway</h1></body></html>"),
    Failure.GARBAGE: (200, b'{"ok":true,"result":[{"update_id":'),
    Failure.DEEP: (200, b"[" * 200_000),
    Failure.NONSENSE: (200, b'["ok"]'),
    Failure.REDIRECT: (302, b""),
}

Script = Callable[[str], Failure | None]


@dataclass(frozen=True)
class Sent:
    """A message or picture that arrived in a chat."""

    chat: int
    text: str
    keyboard: tuple[tuple[tuple[str, str], ...], ...] = ()
    photo: bytes | None = field(default=None, repr=False)


class FakeTelegram:
    """The server. What arrived stands in its lists; `say` and `press` are what people do."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.script: Script = lambda method: None
        self.sent: list[Sent] = []
        self.acknowledged: list[str] = []
        self.menu: list[dict[str, str]] = []
        self.calls: Counter[str] = Counter()
        self.offsets: list[int | None] = []
        self.old_queries: set[str] = set()
        self.stripped_of_keyboard: list[int] = []
        self.gone_chats: set[int] = set()
        self.connections = 0
        self.closing = threading.Event()
        self._pending: list[dict[str, Any]] = []
        self._held = 0
        self._next_id = 1_000
        self._message_id = 0
        self._changed = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fake-telegram")
        self._thread.start()

    @property
    def url(self) -> str:
        """For TELEGRAM_API_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def pending(self) -> int:
        """How many updates it hasn't been told to forget."""
        with self._changed:
            return len(self._pending)

    @property
    def idle(self) -> bool:
        """Whether the bot has handled everything: it waits for more."""
        with self._changed:
            return self._held > 0 and not self._pending

    def say(self, text: str, *, chat: int = CHAT, sent_at: datetime | None = None, kind: str = "private") -> int:
        """Somebody writes; the update's number."""
        at = int((sent_at or self.clock()).timestamp())
        message = {"message_id": 1, "date": at, "chat": {"id": chat, "type": kind}, "text": text}
        return self.push({"message": message})

    def press(self, data: str, *, chat: int = CHAT, message_id: int = 1, old: bool = False) -> int:
        """Somebody presses a button under one of the bot's messages, which may be too long ago."""
        with self._changed:
            query_id = f"q{self._next_id}"
        if old:
            self.old_queries.add(query_id)
        # Of a message that is old itself, Telegram gives no more than this.
        message = {"message_id": message_id, "date": 0, "chat": {"id": chat, "type": "private"}}
        return self.push({"callback_query": {"id": query_id, "from": {"id": 1}, "message": message, "data": data}})

    def push(self, update: Any) -> int:
        """Any update; its number, which is added."""
        (number,) = self.push_all([update])
        return number

    def push_all(self, updates: Sequence[Any]) -> list[int]:
        """Several at once."""
        with self._changed:
            numbers = []
            for update in updates:
                self._pending.append({"update_id": self._next_id, **update})
                numbers.append(self._next_id)
                self._next_id += 1
            self._changed.notify_all()
            return numbers

    def texts(self, chat: int = CHAT) -> list[str]:
        """What arrived in a chat, in order."""
        with self._changed:
            return [sent.text for sent in self.sent if sent.chat == chat]

    def begin_anew_at(self, number: int) -> None:
        """From here on updates are numbered from there, as after a week without any."""
        with self._changed:
            self._next_id = number

    def close(self) -> None:
        """Ends every connection and the server."""
        self.closing.set()
        with self._changed:
            self._changed.notify_all()
            sockets = list(self._sockets)
        self._server.shutdown()
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._server.server_close()
        self._thread.join(JOIN_TIMEOUT_S)

    def opened(self, sock: socket.socket) -> None:
        """A client has connected."""
        with self._changed:
            self.connections += 1
            self._sockets.add(sock)

    def closed(self, sock: socket.socket) -> None:
        """It is gone."""
        with self._changed:
            self._sockets.discard(sock)

    def answer(self, token: str, method: str, params: dict[str, Any]) -> tuple[int, Any]:
        """Status and body for a call."""
        with self._changed:
            self.calls[method] += 1
        if token != self.token:
            return _refusal(401, "Unauthorized")
        act = getattr(self, f"_{_snake(method)}", None)
        if act is None:
            return _refusal(404, "Not Found: method not found")
        status, body = act(params)
        return status, body

    def _get_me(self, params: dict[str, Any]) -> tuple[int, Any]:
        return _result({"id": int(self.token.partition(":")[0]), "is_bot": True, "username": USERNAME})

    def _get_updates(self, params: dict[str, Any]) -> tuple[int, Any]:
        offset = params.get("offset")
        with self._changed:
            self.offsets.append(offset)
            if offset is not None:
                self._pending = [update for update in self._pending if update["update_id"] >= offset]
            hold_s = min(float(params.get("timeout", 0)), LONGEST_HOLD_S)
            self._held += 1
            self._changed.wait_for(lambda: self._pending or self.closing.is_set(), hold_s)
            self._held -= 1
            return _result(self._pending[: params.get("limit", 100)])

    def _send_message(self, params: dict[str, Any]) -> tuple[int, Any]:
        refusal = self._chat_refusal(params["chat_id"]) or text_refusal(params["text"])
        if refusal is not None:
            return refusal
        keyboard = tuple(
            tuple((button["text"], button["callback_data"]) for button in row)
            for row in params.get("reply_markup", {}).get("inline_keyboard", ())
        )
        if any(len(data.encode()) > 64 for row in keyboard for _, data in row):
            return _refusal(400, "Bad Request: BUTTON_DATA_INVALID")
        return self._arrived(Sent(params["chat_id"], params["text"], keyboard))

    def _send_photo(self, params: dict[str, Any]) -> tuple[int, Any]:
        photo = params["photo"]
        if not photo.startswith(b"\x89PNG"):
            return _refusal(400, "Bad Request: IMAGE_PROCESS_FAILED")
        chat = int(params["chat_id"])
        return self._chat_refusal(chat) or self._arrived(Sent(chat, params["caption"].decode(), photo=photo))

    def _edit_message_reply_markup(self, params: dict[str, Any]) -> tuple[int, Any]:
        self.stripped_of_keyboard.append(params["message_id"])
        return _result(True)

    def _answer_callback_query(self, params: dict[str, Any]) -> tuple[int, Any]:
        query_id = params["callback_query_id"]
        if query_id in self.old_queries:
            told = "Bad Request: query is too old and response timeout expired or query ID is invalid"
            return _refusal(400, told)
        self.acknowledged.append(query_id)
        return _result(True)

    def _set_my_commands(self, params: dict[str, Any]) -> tuple[int, Any]:
        for command in params["commands"]:
            if not re.fullmatch(r"[a-z0-9_]{1,32}", command["command"]) or not 1 <= len(command["description"]) <= 256:
                return _refusal(400, "Bad Request: BOT_COMMAND_INVALID")
        self.menu = params["commands"]
        return _result(True)

    def _chat_refusal(self, chat: int) -> tuple[int, Any] | None:
        if chat in self.gone_chats:
            return _refusal(403, "Forbidden: bot was blocked by the user")
        return None

    def _arrived(self, sent: Sent) -> tuple[int, Any]:
        with self._changed:
            self._message_id += 1
            self.sent.append(sent)
            return _result({"message_id": self._message_id, "chat": {"id": sent.chat}})


def in_turn(failures: Sequence[Failure], every: int, *methods: str) -> Script:
    """A script by which every so many calls (of these methods, or of all) one fails, each way in turn."""
    ways, lock, calls = cycle(failures), threading.Lock(), Counter[str]()

    def script(method: str) -> Failure | None:
        if methods and method not in methods:
            return None
        with lock:
            calls["all"] += 1
            return next(ways) if calls["all"] % every == 0 else None

    return script


def always(failure: Failure, *methods: str) -> Script:
    """A script by which every call (of these methods, or of all) fails so."""
    return lambda method: failure if not methods or method in methods else None


def plain_text(html: str) -> str:
    """What a reader sees of a message."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text


class _Reader(HTMLParser):
    """Reads a message's HTML as Telegram does: a few tags, each closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.wrong: str | None = None
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag not in _TAGS:
            self.wrong = f'Unsupported start tag "{tag}"'

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong = f'Unmatched end tag "{tag}"'

    def handle_data(self, data: str) -> None:
        self.text += data


def text_refusal(html: str) -> tuple[int, Any] | None:
    """What Telegram answers to a message that it can't read, that is empty or too long; None for one it takes."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    if reader.wrong or reader.open:
        return _refusal(400, f"Bad Request: can't parse entities: {reader.wrong or 'tag not closed'}")
    if not reader.text.strip():
        return _refusal(400, "Bad Request: message text is empty")
    if len(reader.text.encode("utf-16-le")) // 2 > 4_096:
        return _refusal(400, "Bad Request: message is too long")
    return None


def _result(result: Any) -> tuple[int, Any]:
    return 200, {"ok": True, "result": result}


def _refusal(status: int, told: str) -> tuple[int, Any]:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": told}
    if status == 429:
        body["parameters"] = {"retry_after": RETRY_AFTER_S}
    return status, body


def _snake(method: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", method).lower()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    fake: FakeTelegram

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.fake.opened(self.connection)

    def finish(self) -> None:
        self.server.fake.closed(self.connection)
        super().finish()

    def log_message(self, *args: Any) -> None:
        """Nothing: tests read what came from lists."""

    def do_POST(self) -> None:
        """A call: `/bot<token>/<method>`."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, bot, method = self.path.split("/")
        failure = self.server.fake.script(method)
        if failure in (None, Failure.RESET_AFTER, Failure.DRIPPED_BODY, Failure.ODD_HEADERS):
            status, answer = self.server.fake.answer(bot.removeprefix("bot"), method, self._params(body))
            if failure is Failure.RESET_AFTER:
                self._reset()
            elif failure is Failure.DRIPPED_BODY:
                self._drip(_head(status, 1_000_000))
            else:
                odd = b"no colon here\r\n" if failure is Failure.ODD_HEADERS else b""
                self._write(status, json.dumps(answer).encode(), odd)
            return
        self.server.fake.calls[method] += 1
        self._fail(failure)

    def _fail(self, failure: Failure | None) -> None:
        if failure in _REFUSALS:
            status, answer = _refusal(*_REFUSALS[failure])
            self._write(status, json.dumps(answer).encode())
        elif failure in _BODIES:
            status, body = _BODIES[failure]
            self._write(status, body, b"Location: /elsewhere\r\n")
        elif failure is Failure.DRIPPED_HEADERS:
            self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        elif failure is Failure.HANGING:
            self.close_connection = True
            self.server.fake.closing.wait(LONGEST_HOLD_S)
        elif failure is Failure.HUGE:
            self.close_connection = True
            self.wfile.write(_head(200, 10**12))
            for _ in range(100_000):
                self.wfile.write(b" " * 65_536)
        else:
            self._reset()

    def _params(self, body: bytes) -> dict[str, Any]:
        kind = self.headers["Content-Type"]
        if kind == "application/json":
            return dict(json.loads(body))
        form = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        return {
            str(part.get_param("name", header="Content-Disposition")): part.get_payload(decode=True)
            for part in form.walk()
            if not part.is_multipart()
        }

    def _write(self, status: int, body: bytes, more: bytes = b"") -> None:
        self.wfile.write(_head(status, len(body), more) + body)

    def _drip(self, first: bytes) -> None:
        """A byte now and then, for as long as somebody reads."""
        self.close_connection = True
        self.wfile.write(first)
        while not self.server.fake.closing.wait(DRIP_S):
            self.wfile.write(b" ")

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.connection.close()


def _head(status: int, length: int, more: bytes = b"") -> bytes:
    return (
        f"HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n".encode()
        + more
        + b"\r\n"
    )


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    """A Telegram of this test's own."""
    fake = FakeTelegram()
    yield fake
    fake.close()
