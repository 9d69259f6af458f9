"""Calls to Telegram over real HTTP: each ends, each failure has its name, and none shows the token."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

import pytest

from monitor.telegram.api import Button, TelegramApi
from monitor.telegram.errors import BadToken, PollConflict, TelegramError, TelegramRefused, TelegramUnavailable
from rig.fixtures.clock import eventually
from rig.fixtures.telegram import CHAT, RETRY_AFTER_S, TOKEN, USERNAME, Failure, FakeTelegram, Sent, always
from rig.relay import free_port

DEADLINE_S = 0.3
PATIENT_S = 8.0
SOON_S = 3.0
"""Far above the short deadline, for a machine at work, and far below what a drip would take."""

ENDLESS = {Failure.DRIPPED_HEADERS, Failure.DRIPPED_BODY, Failure.HANGING}


@pytest.fixture
def api(telegram: FakeTelegram) -> Iterator[TelegramApi]:
    """The bot's line to the server."""
    api = TelegramApi(TOKEN, telegram.url, deadline_s=PATIENT_S, max_answer_bytes=500_000)
    yield api
    api.close()


@pytest.fixture
def hasty(telegram: FakeTelegram) -> Iterator[TelegramApi]:
    """Another one, with little patience: for answers that never end."""
    api = TelegramApi(TOKEN, telegram.url, deadline_s=DEADLINE_S)
    yield api
    api.close()


def works(api: TelegramApi) -> bool:
    """Whether a call gets through."""
    try:
        return api.get_me() == USERNAME
    except TelegramUnavailable:
        return False


def everything_about(error: BaseException) -> str:
    """What any log could show of an error, with those it came from."""
    told, seen = "", error
    while seen is not None:
        told += f"{seen!s} {seen!r} {vars(seen)!r}"
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]
    return told


def test_calls_say_what_they_should_over_one_connection(telegram: FakeTelegram, api: TelegramApi) -> None:
    assert api.get_me() == USERNAME
    api.set_my_commands({"help": "What I can do"})
    assert telegram.menu == [{"command": "help", "description": "What I can do"}]
    assert api.send_message(CHAT, "<b>1 &lt; 2</b>", ((Button("yes", "sweep:1"), Button("no", "keep:1")),)) == 1
    api.send_photo(CHAT, b"\x89PNG\r\n\x1a\nrest", "a picture")
    assert telegram.sent == [
        Sent(CHAT, "<b>1 &lt; 2</b>", ((("yes", "sweep:1"), ("no", "keep:1")),)),
        Sent(CHAT, "a picture", photo=b"\x89PNG\r\n\x1a\nrest"),
    ]
    api.remove_keyboard(CHAT, 1)
    assert telegram.stripped_of_keyboard == [1]
    telegram.say("/help")
    (update,) = api.get_updates(None, timeout_s=5)
    assert update["message"]["text"] == "/help"
    assert api.get_updates(update["update_id"] + 1, timeout_s=0) == []
    assert telegram.pending == 0
    assert telegram.connections == 1


def test_a_poll_is_held_open_until_there_is_something(telegram: FakeTelegram, hasty: TelegramApi) -> None:
    later = threading.Timer(0.5, telegram.say, ["/help"])
    later.start()
    assert len(hasty.get_updates(None, timeout_s=10)) == 1
    later.join()


@pytest.mark.parametrize(
    ("failure", "error", "told"),
    [
        (Failure.SERVER_ERROR, TelegramUnavailable, "500 Internal Server Error"),
        (Failure.BAD_GATEWAY, TelegramUnavailable, "502"),
        (Failure.GARBAGE, TelegramUnavailable, "isn't Telegram's"),
        (Failure.DEEP, TelegramUnavailable, "isn't Telegram's"),
        (Failure.NONSENSE, TelegramUnavailable, "isn't Telegram's"),
        (Failure.REDIRECT, TelegramUnavailable, "TELEGRAM_API_URL"),
        (Failure.HUGE, TelegramUnavailable, "larger than 500000 bytes"),
        (Failure.DRIPPED_HEADERS, TelegramUnavailable, "no whole answer within 0.3 s"),
        (Failure.DRIPPED_BODY, TelegramUnavailable, "no whole answer within 0.3 s"),
        (Failure.HANGING, TelegramUnavailable, "0.3 s|no answer in time"),
        (Failure.RESET_BEFORE, TelegramUnavailable, "dropped the connection"),
        (Failure.RESET_AFTER, TelegramUnavailable, "dropped the connection"),
        (Failure.TOO_MANY, TelegramUnavailable, "429 Too Many Requests"),
        (Failure.CONFLICT, PollConflict, "only one bot instance"),
        (Failure.UNAUTHORIZED, BadToken, "check TELEGRAM_BOT_TOKEN"),
        (Failure.NOT_FOUND, BadToken, "check TELEGRAM_BOT_TOKEN"),
        (Failure.FORBIDDEN, TelegramRefused, "blocked by the user"),
    ],
)
def test_each_failure_has_its_name_ends_soon_and_shows_no_token(
    telegram: FakeTelegram,
    api: TelegramApi,
    hasty: TelegramApi,
    failure: Failure,
    error: type[TelegramError],
    told: str,
) -> None:
    api = hasty if failure in ENDLESS else api
    eventually(lambda: works(api), "there is a connection to use again: the first call's, not the second's")
    telegram.script = always(failure)
    for call in (lambda: api.get_updates(7, timeout_s=0), lambda: api.send_message(CHAT, "hello")):
        began = monotonic()
        with pytest.raises(error, match=told) as caught:
            call()
        assert monotonic() - began < SOON_S
        assert TOKEN not in everything_about(caught.value)
        assert caught.value.__context__ is None
        wanted = RETRY_AFTER_S if failure is Failure.TOO_MANY else None
        assert getattr(caught.value, "retry_after_s", None) == wanted
    telegram.script = lambda method: None
    eventually(lambda: works(api), "the line works again")


def test_nobody_there_is_unavailable() -> None:
    api = TelegramApi(TOKEN, f"http://127.0.0.1:{free_port()}", deadline_s=DEADLINE_S)
    with pytest.raises(TelegramUnavailable, match="can't be reached") as caught:
        api.get_me()
    assert TOKEN not in everything_about(caught.value)
    api.close()


def test_refusals_of_a_chat_say_why(telegram: FakeTelegram, api: TelegramApi) -> None:
    telegram.gone_chats.add(CHAT)
    with pytest.raises(TelegramRefused, match="blocked by the user"):
        api.send_message(CHAT, "hello")
    with pytest.raises(TelegramRefused, match="can't parse entities"):
        api.send_message(1, "<b>hello")
    telegram.old_queries.add("q1")
    with pytest.raises(TelegramRefused, match="query is too old"):
        api.answer_callback("q1")


def test_a_wrong_token_is_told_without_showing_it(telegram: FakeTelegram) -> None:
    wrong = "123456789:BBB-another_made_up_one_0123456789abcd"
    api = TelegramApi(wrong, telegram.url)
    with pytest.raises(BadToken) as caught:
        api.get_me()
    assert wrong not in everything_about(caught.value)
    api.close()


@pytest.mark.parametrize("token", [TOKEN, "a whole secret without a colon", "secret:", "sec ret:xyzzy"])
def test_repr_and_bot_id_hide_the_token(token: str) -> None:
    api = TelegramApi(token, "http://user:password@127.0.0.1:1/")
    secret = token.partition(":")[2] or token
    assert secret not in repr(api) + api.bot_id
    assert "password" not in repr(api)
    assert api.bot_id == ("123456789" if token == TOKEN else "unknown")
    api.close()


def test_no_log_line_shows_the_token(
    telegram: FakeTelegram, hasty: TelegramApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for failure in Failure:
        telegram.script = always(failure)
        with suppress(TelegramError):
            hasty.get_me()
    assert "127.0.0.1" in caplog.text, "urllib3 logs, and was looked at"
    assert TOKEN not in caplog.text
    assert TOKEN.partition(":")[2] not in caplog.text


def test_odd_headers_don_t_matter(telegram: FakeTelegram, api: TelegramApi) -> None:
    telegram.script = always(Failure.ODD_HEADERS)
    with suppress(TelegramUnavailable):
        assert api.get_me() == USERNAME


@pytest.mark.parametrize("end", ["cut_polls", "close"])
def test_a_long_poll_ends_at_once(telegram: FakeTelegram, api: TelegramApi, end: str) -> None:
    raised: list[TelegramError] = []

    def poll() -> None:
        try:
            api.get_updates(None, timeout_s=50)
        except TelegramError as error:
            raised.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    eventually(lambda: telegram.offsets == [None], "the poll has arrived")
    began = monotonic()
    getattr(api, end)()
    thread.join(SOON_S)
    assert not thread.is_alive()
    assert monotonic() - began < 1
    assert isinstance(raised[0], TelegramUnavailable)
    if end == "cut_polls":
        assert api.get_me() == USERNAME, "only polls were cut"
    else:
        with pytest.raises(TelegramUnavailable, match="was closed"):
            api.get_me()


def test_a_poll_that_begins_while_stopping_does_not(telegram: FakeTelegram, api: TelegramApi) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(TelegramUnavailable, match="was ended"):
        api.get_updates(None, timeout_s=50, stopping=stopping)
    assert telegram.offsets == []


def serve_one(answer: Callable[[socket.socket], None]) -> tuple[int, threading.Thread]:
    """A server for one connection that isn't HTTP; its port and thread."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as client, suppress(OSError):
            answer(client)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener.getsockname()[1], thread


def test_a_dripping_tls_handshake_ends_too() -> None:
    pause = threading.Event()

    def drip(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0\x03\x03")  # A server's hello of 16 kB, begun.
        while True:
            client.sendall(b"\0")
            pause.wait(0.02)

    port, thread = serve_one(drip)
    api = TelegramApi(TOKEN, f"https://127.0.0.1:{port}", deadline_s=DEADLINE_S)
    began = monotonic()
    with pytest.raises(TelegramUnavailable, match=r"getMe: 127\.0\.0\.1: ") as caught:
        api.get_me()
    assert monotonic() - began < SOON_S
    assert TOKEN not in everything_about(caught.value)
    api.close()
    thread.join(SOON_S)


def test_no_thread_and_no_socket_is_left(telegram: FakeTelegram) -> None:
    before = {thread.name for thread in threading.enumerate()}
    api = TelegramApi(TOKEN, telegram.url, deadline_s=DEADLINE_S)
    for failure in (None, *Failure):
        telegram.script = (lambda method: None) if failure is None else always(failure)
        with suppress(TelegramError):
            api.get_me()
    assert not {thread.name for thread in threading.enumerate() if "watchdog" in thread.name} - before
    api.close()
