"""Telegram's Bot API over HTTP. This is the only module that uses `requests`.

Every call ends: it has a total deadline, its answer has a maximum size, it is never repeated and follows no redirect.
Every failure is one of `monitor.telegram.errors`.

The token is part of every address, and errors of `requests` and `urllib3` show addresses, as do some of their log
lines. So none of those errors leaves this module, not even as a context, and log lines that show the token are dropped.
"""

import ipaddress
import json
import logging
import re
import threading
from collections.abc import Collection, Mapping
from contextlib import closing
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from keystore.upkeep import Upkeep
from monitor.reports.doctor import Result
from monitor.reports.formatting import counted
from monitor.telegram.chats import Chat, moved_since
from monitor.telegram.errors import TelegramError, TelegramRefused, TelegramUnavailable, error_from
from monitor.telegram.exchange import Exchange, cuttable
from monitor.telegram.messages import Keyboard

CONNECT_TIMEOUT_S = 3.0
DEADLINE_S = 15.0
"""Total time for a call that Telegram answers at once. A long poll gets this in addition to its own time."""

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Largest answer that is read. A hundred updates of the requested kinds stay far below it."""

MOST_UPDATES = 100
UPDATE_KINDS = ("message", "channel_post", "callback_query")
ADMINISTRATORS = ("creator", "administrator")

CHECKED_WITHIN_S = 8.0
IN_CLEAR = "TELEGRAM_API_URL is http:// to another machine: the bot's token travels unencrypted; use https://"
_TOKEN = re.compile(r"\d{5,}:[A-Za-z0-9_-]{30,}")
_LONGEST_DESCRIPTION = 300
_CHUNK_BYTES = 65_536
_CONNECTIONS = 4
"""Most connections kept alive: one for polling, the others for the threads that send."""


class TelegramClient:
    """Calls to Telegram as one bot, from several threads."""

    def __init__(
        self,
        token: str,
        base_url: str,
        proxy: str | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """Without `proxy`, the proxy that `requests` finds in the environment is used, if any."""
        self._token = token
        self._base_url = base_url.rstrip("/")
        self._deadline_s = deadline_s
        self._max_answer_bytes = max_answer_bytes
        self._lock = threading.Lock()
        self._exchanges: set[Exchange] = set()
        self._closed = False
        self._proxy = proxy or _proxy_of_environment(self._base_url)
        self._session = requests.Session()
        # No passwords from ~/.netrc. (It would also prefer a proxy of the environment to TELEGRAM_PROXY.)
        self._session.trust_env = False
        if self._proxy is not None:
            self._session.proxies = {"http": self._proxy, "https": self._proxy}
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["Accept-Encoding"] = "identity"  # A small answer can't expand beyond the maximum size.
        for scheme in ("http", "https"):
            adapter = _CuttableAdapter(pool_connections=1, pool_maxsize=_CONNECTIONS, max_retries=0)
            self._session.mount(f"{scheme}://", adapter)
        self._token_filter = _TokenFilter(token)
        for logger in _URL_LOGGERS:
            logger.addFilter(self._token_filter)

    def __repr__(self) -> str:
        parts = urlsplit(self._base_url)
        return f"TelegramClient(bot {self.bot_id} at {parts.scheme}://{parts.hostname})"

    @property
    def bot_id(self) -> str:
        """The bot's number: the part of the token that is no secret. "unknown" if the token has none."""
        return bot_id(self._token)

    def get_me(self) -> str:
        """The bot's user name."""
        me = self._call("getMe", json={})
        if not isinstance(me, dict) or not isinstance(me.get("username"), str):
            raise TelegramUnavailable("getMe: the answer has no user name")
        return str(me["username"])

    def get_updates(
        self, offset: int | None, *, timeout_s: int, limit: int = MOST_UPDATES, stopping: threading.Event | None = None
    ) -> list[Any]:
        """The updates from `offset` on, oldest first. Waits up to `timeout_s` for one; Telegram forgets earlier ones.
        Raises TelegramUnavailable at once if `stopping` is set and then `cut_polls` is called."""
        params: dict[str, Any] = {"timeout": timeout_s, "limit": limit, "allowed_updates": UPDATE_KINDS}
        if offset is not None:
            params["offset"] = offset
        updates = self._call("getUpdates", json=params, poll_s=timeout_s, stopping=stopping)
        if not isinstance(updates, list):
            raise TelegramUnavailable("getUpdates: the answer is no list of updates")
        return updates

    def send_message(self, chat: Chat, html: str, keyboard: Keyboard = ()) -> None:
        """Send a message of at most 4,096 characters."""
        params = {**_address(chat), "text": html, "parse_mode": "HTML", "link_preview_options": {"is_disabled": True}}
        if keyboard:
            params["reply_markup"] = _markup(keyboard)
        self._call("sendMessage", json=params)

    def send_photo(self, chat: Chat, png: bytes, caption: str) -> None:
        """Send a picture with a caption of plain text."""
        photo = ("growth.png", png, "image/png")
        self._call("sendPhoto", data={**_address(chat), "caption": caption}, files={"photo": photo})

    def is_administrator(self, chat: int, user: int) -> bool:
        """Return whether a user is an administrator of a group or channel."""
        member = self._call("getChatMember", json={"chat_id": chat, "user_id": user})
        return isinstance(member, dict) and member.get("status") in ADMINISTRATORS

    def require_chat(self, chat: Chat) -> None:
        """Raise TelegramRefused unless the bot is a member of this chat."""
        self._call("getChat", json={"chat_id": chat.number})

    def remove_keyboard(self, chat: int, message_id: int) -> None:
        """Remove the buttons under a message."""
        params = {"chat_id": chat, "message_id": message_id, "reply_markup": _markup(())}
        self._call("editMessageReplyMarkup", json=params)

    def answer_callback(self, query_id: str) -> None:
        """Confirm that a press of a button has arrived. Raises TelegramRefused if the press is too old."""
        self._call("answerCallbackQuery", json={"callback_query_id": query_id})

    def set_my_commands(self, commands: Mapping[str, str]) -> None:
        """Register the menu: names of commands with their descriptions."""
        menu = [{"command": name, "description": description} for name, description in commands.items()]
        self._call("setMyCommands", json={"commands": menu})

    def cut_polls(self) -> None:
        """End every `get_updates` that is under way."""
        self._cut("the poll was ended", "getUpdates")

    def close(self) -> None:
        """End every call that is under way, at once, and refuse new ones."""
        with self._lock:
            self._closed = True
        self._cut("the client was closed")
        self._session.close()
        for logger in _URL_LOGGERS:
            logger.removeFilter(self._token_filter)

    def _cut(self, reason: str, method: str | None = None) -> None:
        with self._lock:
            exchanges = [exchange for exchange in self._exchanges if method in (None, exchange.method)]
        for exchange in exchanges:
            exchange.cut(reason)

    def _call(
        self, method: str, *, poll_s: float = 0.0, stopping: threading.Event | None = None, **content: Any
    ) -> Any:
        """The result of a call. `content` is its `json`, or its form `data` and `files`."""
        exchange = Exchange(method)
        with self._lock:
            if self._closed:
                raise TelegramUnavailable(f"{method}: the client was closed")
            self._exchanges.add(exchange)
        try:
            # Checked only now: a thread that sets the event and then cuts the polls finds this exchange.
            if stopping is not None and stopping.is_set():
                raise TelegramUnavailable(f"{method}: the poll was ended")
            status, body = self._answer(exchange, poll_s + self._deadline_s, content)
        finally:
            with self._lock:
                self._exchanges.discard(exchange)
        return _result(method, status, body, self._token)

    def _answer(self, exchange: Exchange, deadline_s: float, content: Mapping[str, Any]) -> tuple[int, bytes]:
        try:
            with exchange.running(deadline_s):
                answer = self._post(exchange.method, deadline_s, content)
            # Checked although there is an answer: headers that were cut off look like headers that end.
            if exchange.cut_reason is None:
                return answer
            failure = exchange.cut_reason
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            failure = exchange.cut_reason or _describe(error)
        # Raised outside the handlers: as the new error's context, the old one would show the address and so the token.
        host = urlsplit(self._base_url).hostname
        way = "" if self._proxy is None else f" through the proxy {without_password(self._proxy)}"
        raise TelegramUnavailable(f"{exchange.method}: {host}{way}: {failure}")

    def _post(self, method: str, deadline_s: float, content: Mapping[str, Any]) -> tuple[int, bytes]:
        response = self._session.post(
            f"{self._base_url}/bot{quote(self._token, safe=':')}/{method}",
            timeout=(min(CONNECT_TIMEOUT_S, deadline_s), deadline_s),
            allow_redirects=False,
            stream=True,
            **content,
        )
        with response:
            body = bytearray()
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                body += chunk
                if len(body) > self._max_answer_bytes:
                    raise TelegramUnavailable(f"{method}: the answer is larger than {self._max_answer_bytes} bytes")
            return response.status_code, bytes(body)


def check_bot(token: str | None, chats: Collection[Chat], api_url: str, proxy: str | None) -> Result:
    """Ask Telegram for the bot's name and for its chats, for the `doctor` report. Without a token no bot is set up."""
    if token is None:
        return "ok", "not set up"
    if not _TOKEN.fullmatch(token):
        return "failed", "TELEGRAM_BOT_TOKEN doesn't look like a token; copy it again from @BotFather"
    refused = {}
    with closing(TelegramClient(token, api_url, proxy, deadline_s=CHECKED_WITHIN_S)) as client:
        try:
            name = client.get_me()
            for chat in chats:
                try:
                    client.require_chat(chat)
                except TelegramRefused as error:
                    refused[chat] = error
        except TelegramUnavailable as error:
            return "warning", f"Telegram wasn't reached, so token and chats were not tried: {error}"
        except TelegramError as error:
            return "failed", str(error)
    if not chats:
        return "warning", f"@{name} answers nobody and alerts nobody: TELEGRAM_CHAT_ID is not set"
    if refused:
        reasons = "; ".join(f"{chat}: {error}" for chat, error in refused.items())
        return "warning", f"@{name} can't write to {reasons}; correct TELEGRAM_CHAT_ID, or add the bot to that chat"
    if sends_token_in_clear(api_url):
        return "warning", IN_CLEAR
    return "ok", f"@{name} answers and alerts {counted(len(chats), 'chat')}"


def check_chat_numbers(token: str | None, chats: Collection[Chat], store: Upkeep) -> dict[str, Result]:
    """A warning for the `doctor` report where Telegram has changed the number of a listed chat."""
    moved = {} if token is None else moved_since(store, bot_id(token), chats)
    if not moved:
        return {}
    news = "; ".join(f"{old} is {new} now" for old, new in moved.items())
    return {"telegram chats": ("warning", f"Telegram has changed a chat's number: {news}. Correct TELEGRAM_CHAT_ID")}


def bot_id(token: str) -> str:
    """The bot's number: the part of its token that is no secret. "unknown" if the token has none."""
    number, colon, _ = token.partition(":")
    return number if colon and number.isdigit() else "unknown"


def sends_token_in_clear(api_url: str) -> bool:
    """True if the token travels to another machine unencrypted."""
    parts = urlsplit(api_url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def without_password(address: str) -> str:
    """An address without its user and password."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _proxy_of_environment(url: str) -> str | None:
    """The proxy that HTTPS_PROXY, ALL_PROXY and NO_PROXY give for an address, as `requests` reads them."""
    if _is_loopback(urlsplit(url).hostname or ""):
        return None
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(chat: Chat) -> dict[str, int]:
    topic = {} if chat.topic is None else {"message_thread_id": chat.topic}
    return {"chat_id": chat.number, **topic}


class _CuttableAdapter(HTTPAdapter):
    """The adapter of `requests`, with connections that another thread can cut."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = cuttable(self.poolmanager.pool_classes_by_scheme)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            manager.pool_classes_by_scheme = cuttable(manager.pool_classes_by_scheme)
        return manager


_URL_MODULES = ("connection", "connectionpool", "poolmanager", "response", "util.retry", "util.ssl_")
_URL_LOGGERS = [logging.getLogger(f"urllib3.{module}") for module in _URL_MODULES]
"""The loggers whose lines may show addresses: each request as DEBUG, malformed headers of an answer as WARNING."""


class _TokenFilter(logging.Filter):
    """Drops log lines that show the token, in their message or in the error logged with it."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._spellings = (token, quote(token, safe=":"), quote(token))

    def filter(self, record: logging.LogRecord) -> bool:
        text = f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}"
        return not any(spelling in text for spelling in self._spellings)


def _markup(keyboard: Keyboard) -> dict[str, Any]:
    return {"inline_keyboard": [[{"text": each.text, "callback_data": each.data} for each in row] for row in keyboard]}


def _result(method: str, status: int, body: bytes, token: str) -> Any:
    """The result in an answer. Raises the TelegramError that the answer stands for, without the token."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    if status == 200 and answer.get("ok") is True:
        return answer.get("result")
    description, parameters = "no reason given", answer.get("parameters")
    if isinstance(answer.get("description"), str):
        description = " ".join(answer["description"].replace(token, "…").encode(errors="replace").decode().split())
    parameters = parameters if isinstance(parameters, dict) else {}
    raise error_from(method, status, description[:_LONGEST_DESCRIPTION], parameters)


def _describe(error: BaseException) -> str:
    """Describe a failure without the error's own message."""
    if isinstance(error, requests.Timeout):
        return "no connection in time" if isinstance(error, requests.ConnectTimeout) else "no answer in time"
    if isinstance(error, requests.exceptions.ProxyError):
        refusal = re.search(r"Tunnel connection failed: (\d{3} [A-Za-z ]{0,40})", str(error))
        return f"the proxy refused: {refusal[1].strip()}" if refusal else "the proxy can't be reached, or broke off"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "a SOCKS proxy needs another package: `pip install PySocks`"
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed: is its certificate valid, and this machine's clock right?"
    if isinstance(error, requests.ConnectionError):
        return "can't be reached, or dropped the connection"
    return f"failed ({type(error).__name__})"
