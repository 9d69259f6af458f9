"""Telegram's Bot API over HTTP: the one module that talks to `requests`.

Every call ends: it has a total deadline, a bound on the size of its answer, no retries of its own and follows no
redirect. Its failures come as `monitor.telegram.errors`. The token is part of every address, and the errors of
`requests` and `urllib3`, and some of their log lines, show addresses: so none of those errors leaves this module, not
even as a context, and their log lines are kept back.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from monitor.telegram.errors import TelegramUnavailable
from monitor.telegram.exchange import Exchange, PluggedConnection, PluggedTlsConnection
from monitor.telegram.result import result_of

CONNECT_TIMEOUT_S = 3.0
DEADLINE_S = 15.0
"""For a call that Telegram answers at once; a long poll gets as much on top of its own time."""

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""A hundred updates of the kinds that are asked for stay far below it."""

MOST_UPDATES = 100
KINDS_ASKED_FOR = ("message", "callback_query")

_CHUNK_BYTES = 65_536
_CONNECTIONS = 4
"""Kept alive, at most: the poll's, and those of whoever sends."""


@dataclass(frozen=True)
class Button:
    """A button under a message; pressing it sends `data`, at most 64 bytes, back to the bot."""

    text: str
    data: str


Keyboard: TypeAlias = tuple[tuple[Button, ...], ...]
"""Rows of buttons."""


class TelegramApi:
    """One bot's line to Telegram, for several threads."""

    def __init__(
        self,
        token: str,
        base_url: str,
        *,
        deadline_s: float = DEADLINE_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._token = token
        self._base_url = base_url.rstrip("/")
        self._deadline_s = deadline_s
        self._max_answer_bytes = max_answer_bytes
        self._lock = threading.Lock()
        self._exchanges: set[Exchange] = set()
        self._closed = False
        self._session = requests.Session()
        self._session.trust_env = False  # No proxies, bundles or passwords from variables that settings.py didn't read.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["Accept-Encoding"] = "identity"  # A small answer can't swell beyond its bound.
        self._session.mount("http://", _adapter())
        self._session.mount("https://", _adapter())
        self._kept_back = _KeptBack(token)
        for logger in _TELLTALES:
            logger.addFilter(self._kept_back)

    def __repr__(self) -> str:
        parts = urlsplit(self._base_url)
        return f"TelegramApi(bot {self.bot_id} at {parts.scheme}://{parts.hostname})"

    @property
    def bot_id(self) -> str:
        """The bot's number: the part of the token that is no secret."""
        number, colon, _ = self._token.partition(":")
        return number if colon and number.isdigit() else "unknown"

    def get_me(self) -> str:
        """The bot's user name."""
        me = self._call("getMe", {})
        if not isinstance(me, dict) or not isinstance(me.get("username"), str):
            raise TelegramUnavailable("getMe: the answer has no user name")
        return str(me["username"])

    def get_updates(
        self,
        offset: int | None,
        *,
        timeout_s: int,
        limit: int = MOST_UPDATES,
        stopping: threading.Event | None = None,
    ) -> list[Any]:
        """The updates from `offset` on, oldest first; waits up to `timeout_s` for one. Telegram forgets earlier ones.

        Ends at once, as unavailable, when `cut_polls` is called after `stopping` was set.
        """
        params: dict[str, Any] = {"timeout": timeout_s, "limit": limit, "allowed_updates": KINDS_ASKED_FOR}
        if offset is not None:
            params["offset"] = offset
        updates = self._call("getUpdates", params, deadline_s=timeout_s + self._deadline_s, stopping=stopping)
        if not isinstance(updates, list):
            raise TelegramUnavailable("getUpdates: the answer is no list of updates")
        return updates

    def send_message(self, chat: int, html: str, keyboard: Keyboard = ()) -> int | None:
        """Sends a message of at most 4,096 characters; its id."""
        params = {"chat_id": chat, "text": html, "parse_mode": "HTML", "link_preview_options": {"is_disabled": True}}
        if keyboard:
            params["reply_markup"] = _markup(keyboard)
        sent = self._call("sendMessage", params)
        return sent["message_id"] if isinstance(sent, dict) and isinstance(sent.get("message_id"), int) else None

    def send_photo(self, chat: int, png: bytes, caption: str) -> None:
        """Sends a picture with a few words of plain text under it."""
        params = {"chat_id": str(chat), "caption": caption}
        self._call("sendPhoto", params, files={"photo": ("growth.png", png, "image/png")})

    def remove_keyboard(self, chat: int, message_id: int) -> None:
        """Takes the buttons away from under a message."""
        params = {"chat_id": chat, "message_id": message_id, "reply_markup": _markup(())}
        self._call("editMessageReplyMarkup", params)

    def answer_callback(self, query_id: str, text: str = "") -> None:
        """Says that a button's press has arrived. TelegramRefused: the press is too old."""
        self._call("answerCallbackQuery", {"callback_query_id": query_id, "text": text})

    def set_my_commands(self, commands: Mapping[str, str]) -> None:
        """Registers the menu: commands with what they do."""
        menu = [{"command": name, "description": told} for name, told in commands.items()]
        self._call("setMyCommands", {"commands": menu})

    def cut_polls(self) -> None:
        """Ends every `get_updates` that is under way."""
        self._cut("the poll was ended", "getUpdates")

    def close(self) -> None:
        """Ends every call that is under way, at once, and refuses new ones."""
        with self._lock:
            self._closed = True
        self._cut("the line to Telegram was closed")
        self._session.close()
        for logger in _TELLTALES:
            logger.removeFilter(self._kept_back)

    def _cut(self, because: str, what: str | None = None) -> None:
        with self._lock:
            under_way = [one for one in self._exchanges if what is None or one.what == what]
        for exchange in under_way:
            exchange.cut(because)

    def _call(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        files: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
        stopping: threading.Event | None = None,
    ) -> Any:
        exchange = Exchange(method)
        with self._lock:
            if self._closed:
                raise TelegramUnavailable(f"{method}: the line to Telegram was closed")
            self._exchanges.add(exchange)
        try:
            # Only now: whoever sets the event and cuts afterwards finds this exchange.
            if stopping is not None and stopping.is_set():
                raise TelegramUnavailable(f"{method}: the poll was ended")
            status, body = self._answer(exchange, params, files, self._deadline_s if deadline_s is None else deadline_s)
        finally:
            with self._lock:
                self._exchanges.discard(exchange)
        return result_of(method, status, body, self._token)

    def _answer(
        self, exchange: Exchange, params: Mapping[str, Any], files: Mapping[str, Any] | None, deadline_s: float
    ) -> tuple[int, bytes]:
        failure = ""
        try:
            with exchange.at_work(deadline_s):
                answer = self._post(exchange.what, params, files, deadline_s)
            # Headers that were cut off look like headers that end.
            if exchange.cut_because is None:
                return answer
            failure = exchange.cut_because
        except _TooLarge:
            failure = f"the answer is larger than {self._max_answer_bytes} bytes"
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            failure = exchange.cut_because or _kind(error)
        # Out here the error is no longer this one's context: it would show the address, and so the token.
        host = urlsplit(self._base_url).hostname
        raise TelegramUnavailable(f"{exchange.what}: {host}: {failure}")

    def _post(
        self, method: str, params: Mapping[str, Any], files: Mapping[str, Any] | None, deadline_s: float
    ) -> tuple[int, bytes]:
        sent: dict[str, Any] = {"json": params} if files is None else {"data": params, "files": files}
        response = self._session.post(
            f"{self._base_url}/bot{quote(self._token, safe=':')}/{method}",
            timeout=(min(CONNECT_TIMEOUT_S, deadline_s), deadline_s),
            allow_redirects=False,
            stream=True,
            **sent,
        )
        with response:
            body = bytearray()
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                body += chunk
                if len(body) > self._max_answer_bytes:
                    raise _TooLarge
            return response.status_code, bytes(body)


class _TooLarge(Exception):  # noqa: N818
    """An answer is longer than its bound."""


class _PluggedAdapter(HTTPAdapter):
    """`requests`' adapter with connections that can be ended from another thread."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        pools = self.poolmanager.pool_classes_by_scheme
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("PluggedPool", (pools["http"],), {"ConnectionCls": PluggedConnection}),
            "https": type("PluggedTlsPool", (pools["https"],), {"ConnectionCls": PluggedTlsConnection}),
        }


def _adapter() -> HTTPAdapter:
    return _PluggedAdapter(pool_connections=1, pool_maxsize=_CONNECTIONS, max_retries=0)


_TELLTALES = [
    logging.getLogger(f"urllib3.{module}")
    for module in ("connection", "connectionpool", "poolmanager", "response", "util.retry", "util.ssl_")
]
"""The loggers whose lines may show addresses: each request as DEBUG, an answer's odd headers as WARNING."""


class _KeptBack(logging.Filter):
    """Drops lines that show the token, in their words or in the error they come with."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._shown = (token, quote(token, safe=":"), quote(token))

    def filter(self, record: logging.LogRecord) -> bool:
        told = f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}"
        return not any(shown in told for shown in self._shown)


def _markup(keyboard: Keyboard) -> dict[str, Any]:
    rows = [[{"text": button.text, "callback_data": button.data} for button in row] for row in keyboard]
    return {"inline_keyboard": rows}


def _kind(error: BaseException) -> str:
    """What happened, without the error's own words."""
    if isinstance(error, requests.Timeout):
        return "no connection in time" if isinstance(error, requests.ConnectTimeout) else "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed: is its certificate valid, and this machine's clock right?"
    if isinstance(error, requests.ConnectionError):
        return "can't be reached, or dropped the connection"
    return f"failed ({type(error).__name__})"
