"""Calls to Telegram over real HTTP: each ends, each failure has its own error, and none shows the token."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

import pytest

from monitor.telegram.chats import Chat
from monitor.telegram.client import TelegramClient
from monitor.telegram.errors import BadToken, PollConflict, TelegramError, TelegramRefused, TelegramUnavailable
from monitor.telegram.messages import Button
from rig.fixtures.telegram import CHAT, RETRY_AFTER_S, TOKEN, USERNAME, Failure, FakeTelegram, Sent, always
from rig.relay import free_port
from rig.waiting import eventually

DEADLINE_S = 0.3
PATIENT_S = 8.0
SOON_S = 3.0
"""Far above the short deadline, for a busy machine, and far below the duration of a dripped answer."""

ENDLESS = {Failure.DRIPPED_HEADERS, Failure.DRIPPED_BODY, Failure.HANGING}


@pytest.fixture
def client(telegram: FakeTelegram) -> Iterator[TelegramClient]:
    """A client with a long deadline."""
    client = TelegramClient(TOKEN, telegram.url, deadline_s=PATIENT_S, max_answer_bytes=500_000)
    yield client
    client.close()


@pytest.fixture
def hasty(telegram: FakeTelegram) -> Iterator[TelegramClient]:
    """A client with a short deadline, for answers that never end."""
    client = TelegramClient(TOKEN, telegram.url, deadline_s=DEADLINE_S)
    yield client
    client.close()


def works(client: TelegramClient) -> bool:
    """Return whether a call succeeds."""
    try:
        return client.get_me() == USERNAME
    except TelegramUnavailable:
        return False


def everything_about(error: BaseException) -> str:
    """All text that a log could show of an error and of those that caused it."""
    text, current = "", error
    while current is not None:
        text += f"{current!s} {current!r} {vars(current)!r}"
        current = current.__cause__ or current.__context__  # type: ignore[assignment]
    return text


def test_calls_use_the_protocol_over_one_connection(telegram: FakeTelegram, client: TelegramClient) -> None:
    assert client.get_me() == USERNAME
    client.set_my_commands({"help": "What I can do"})
    assert telegram.menu == [{"command": "help", "description": "What I can do"}]
    client.send_message(Chat(CHAT), "<b>1 &lt; 2</b>", ((Button("yes", "sweep:1"), Button("no", "keep:1")),))
    client.send_photo(Chat(CHAT), b"\x89PNG\r\n\x1a\nrest", "a picture")
    assert telegram.sent == [
        Sent(CHAT, "<b>1 &lt; 2</b>", ((("yes", "sweep:1"), ("no", "keep:1")),)),
        Sent(CHAT, "a picture", photo=b"\x89PNG\r\n\x1a\nrest"),
    ]
    client.remove_keyboard(CHAT, 1)
    assert telegram.keyboards_removed_from == [1]
    telegram.say("/help")
    (update,) = client.get_updates(None, timeout_s=5)
    assert update["message"]["text"] == "/help"
    assert client.get_updates(update["update_id"] + 1, timeout_s=0) == []
    assert telegram.pending == 0
    assert telegram.connections == 1


def test_a_poll_waits_for_an_update(telegram: FakeTelegram, hasty: TelegramClient) -> None:
    later = threading.Timer(0.5, telegram.say, ["/help"])
    later.start()
    assert len(hasty.get_updates(None, timeout_s=10)) == 1
    later.join()


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (Failure.SERVER_ERROR, TelegramUnavailable, "500 Internal Server Error"),
        (Failure.BAD_GATEWAY, TelegramUnavailable, "502"),
        (Failure.TRUNCATED, TelegramUnavailable, "isn't Telegram's"),
        (Failure.DEEPLY_NESTED, TelegramUnavailable, "isn't Telegram's"),
        (Failure.WRONG_SHAPE, TelegramUnavailable, "isn't Telegram's"),
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
def test_each_failure_has_its_error_ends_soon_and_hides_the_token(
    telegram: FakeTelegram,
    client: TelegramClient,
    hasty: TelegramClient,
    failure: Failure,
    error: type[TelegramError],
    words: str,
) -> None:
    client = hasty if failure in ENDLESS else client
    eventually(lambda: works(client), "a connection is kept alive, for the first call to use")
    telegram.script = always(failure)
    for call in (lambda: client.get_updates(7, timeout_s=0), lambda: client.send_message(Chat(CHAT), "hello")):
        began = monotonic()
        with pytest.raises(error, match=words) as caught:
            call()
        assert monotonic() - began < SOON_S
        assert TOKEN not in everything_about(caught.value)
        assert caught.value.__context__ is None
        wanted = RETRY_AFTER_S if failure is Failure.TOO_MANY else None
        assert getattr(caught.value, "retry_after_s", None) == wanted
    telegram.script = lambda method: None
    eventually(lambda: works(client), "calls succeed again")


def test_a_closed_port_is_unavailable() -> None:
    client = TelegramClient(TOKEN, f"http://127.0.0.1:{free_port()}", deadline_s=DEADLINE_S)
    with pytest.raises(TelegramUnavailable, match="can't be reached") as caught:
        client.get_me()
    assert TOKEN not in everything_about(caught.value)
    client.close()


def test_a_refusal_gives_its_reason(telegram: FakeTelegram, client: TelegramClient) -> None:
    telegram.gone_chats.add(CHAT)
    with pytest.raises(TelegramRefused, match="blocked by the user"):
        client.send_message(Chat(CHAT), "hello")
    with pytest.raises(TelegramRefused, match="can't parse entities"):
        client.send_message(Chat(1), "<b>hello")
    telegram.old_queries.add("q1")
    with pytest.raises(TelegramRefused, match="query is too old"):
        client.answer_callback("q1")


def test_a_wrong_token_is_reported_without_showing_it(telegram: FakeTelegram) -> None:
    wrong = "123456789:BBB-another_made_up_one_0123456789abcd"
    client = TelegramClient(wrong, telegram.url)
    with pytest.raises(BadToken) as caught:
        client.get_me()
    assert wrong not in everything_about(caught.value)
    client.close()


@pytest.mark.parametrize("token", [TOKEN, "a whole secret without a colon", "secret:", "sec ret:xyzzy"])
def test_repr_and_bot_id_hide_the_token(token: str) -> None:
    client = TelegramClient(token, "http://user:password@127.0.0.1:1/")
    secret = token.partition(":")[2] or token
    assert secret not in repr(client) + client.bot_id
    assert "password" not in repr(client)
    assert client.bot_id == ("123456789" if token == TOKEN else "unknown")
    client.close()


def test_no_log_line_shows_the_token(
    telegram: FakeTelegram, hasty: TelegramClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for failure in Failure:
        telegram.script = always(failure)
        with suppress(TelegramError):
            hasty.get_me()
    assert "127.0.0.1" in caplog.text, "urllib3 has logged something"
    assert TOKEN not in caplog.text
    assert TOKEN.partition(":")[2] not in caplog.text


def test_malformed_headers_do_no_harm(telegram: FakeTelegram, client: TelegramClient) -> None:
    telegram.script = always(Failure.MALFORMED_HEADERS)
    with suppress(TelegramUnavailable):
        assert client.get_me() == USERNAME


def started_poll(telegram: FakeTelegram, client: TelegramClient) -> tuple[threading.Thread, list[TelegramError]]:
    """Start a long poll in a thread, and wait until it has arrived. Returns the thread, and a list for its error."""
    raised: list[TelegramError] = []

    def poll() -> None:
        try:
            client.get_updates(None, timeout_s=50)
        except TelegramError as error:
            raised.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    eventually(lambda: telegram.offsets == [None], "the poll has arrived")
    return thread, raised


@pytest.mark.parametrize("end", ["cut_polls", "close"])
def test_a_long_poll_is_cut_at_once(telegram: FakeTelegram, client: TelegramClient, end: str) -> None:
    thread, raised = started_poll(telegram, client)
    getattr(client, end)()
    thread.join(SOON_S)
    assert not thread.is_alive(), "a poll lasts longer"
    assert isinstance(raised[0], TelegramUnavailable)
    if end == "cut_polls":
        assert client.get_me() == USERNAME, "only polls were cut"
    else:
        with pytest.raises(TelegramUnavailable, match="was closed"):
            client.get_me()


def test_no_poll_begins_while_the_bot_stops(telegram: FakeTelegram, client: TelegramClient) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(TelegramUnavailable, match="was ended"):
        client.get_updates(None, timeout_s=50, stopping=stopping)
    assert telegram.offsets == []


def serve_once(answer: Callable[[socket.socket], None]) -> tuple[int, threading.Thread]:
    """Start a server that answers one connection, not in HTTP. Returns its port and thread."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as peer, suppress(OSError):
            answer(peer)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener.getsockname()[1], thread


def test_a_dripped_tls_handshake_is_cut() -> None:
    pause = threading.Event()

    def drip(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0\x03\x03")  # The start of a ServerHello of 16 kB.
        while True:
            peer.sendall(b"\0")
            pause.wait(0.02)

    port, thread = serve_once(drip)
    client = TelegramClient(TOKEN, f"https://127.0.0.1:{port}", deadline_s=DEADLINE_S)
    began = monotonic()
    with pytest.raises(TelegramUnavailable, match=r"getMe: 127\.0\.0\.1: ") as caught:
        client.get_me()
    assert monotonic() - began < SOON_S
    assert TOKEN not in everything_about(caught.value)
    client.close()
    thread.join(SOON_S)


def test_no_thread_is_left(telegram: FakeTelegram) -> None:
    before = {thread.name for thread in threading.enumerate()}
    client = TelegramClient(TOKEN, telegram.url, deadline_s=DEADLINE_S)
    for failure in (None, *Failure):
        telegram.script = (lambda method: None) if failure is None else always(failure)
        with suppress(TelegramError):
            client.get_me()
    assert not {thread.name for thread in threading.enumerate() if "watchdog" in thread.name} - before
    client.close()
