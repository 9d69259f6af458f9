"""Telegram through a real proxy: by setting or by environment, with a password that no error shows."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from time import monotonic
from urllib.parse import urlsplit

import pytest

from monitor.telegram.chats import Chat
from monitor.telegram.client import IN_CLEAR, TelegramClient, check_bot
from monitor.telegram.errors import TelegramUnavailable
from rig.fixtures.telegram import CHAT, TOKEN, USERNAME, FakeTelegram
from rig.http_proxy import HttpProxy
from tests.monitor.telegram.test_client import started_poll

HOST = "telegram.invalid"
"""A name that only the proxy can resolve."""

PASSWORD = "S3CRET"
CREDENTIALS = f"bots:{PASSWORD}"
ENVIRONMENT = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]


@pytest.fixture
def proxy(telegram: FakeTelegram) -> Iterator[HttpProxy]:
    """A proxy with a password, behind which the fake Telegram is."""
    parts = urlsplit(telegram.url)
    with HttpProxy({HOST: (f"{parts.hostname}", parts.port or 0)}, CREDENTIALS) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def failure(client: TelegramClient) -> str:
    """The text of the error of a call."""
    with pytest.raises(TelegramUnavailable) as caught:
        client.get_me()
    assert PASSWORD not in f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"
    assert TOKEN not in str(caught.value)
    client.close()
    return str(caught.value)


def test_calls_go_through_the_proxy_of_the_setting(telegram: FakeTelegram, proxy: HttpProxy) -> None:
    client = TelegramClient(TOKEN, f"http://{HOST}", f"http://{CREDENTIALS}@{proxy.address}")
    assert client.get_me() == USERNAME
    client.send_message(Chat(CHAT), "hello")
    assert telegram.texts() == ["hello"]
    assert {method for method, _ in proxy.requests} == {"POST"}
    client.close()


def test_calls_go_through_the_proxy_of_the_environment(
    telegram: FakeTelegram, proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{CREDENTIALS}@{proxy.address}")
    client = TelegramClient(TOKEN, f"http://{HOST}")
    assert client.get_me() == USERNAME
    client.close()
    monkeypatch.setenv("ALL_PROXY", "http://192.0.2.1:9")
    local = TelegramClient(TOKEN, telegram.url)
    assert local.get_me() == USERNAME, "this machine is reached without a proxy"
    local.close()
    monkeypatch.setenv("NO_PROXY", HOST)
    assert "through the proxy" not in failure(TelegramClient(TOKEN, f"http://{HOST}", deadline_s=1))


def test_the_setting_wins_over_the_environment(proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://192.0.2.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:9")
    client = TelegramClient(TOKEN, f"http://{HOST}", f"http://{CREDENTIALS}@{proxy.address}")
    assert client.get_me() == USERNAME
    client.close()


def test_an_https_address_is_reached_through_a_tunnel(telegram: FakeTelegram, proxy: HttpProxy) -> None:
    client = TelegramClient(TOKEN, f"https://{HOST}", f"http://{CREDENTIALS}@{proxy.address}", deadline_s=2)
    # The fake Telegram doesn't speak TLS: the tunnel stands, and the handshake in it fails.
    assert f"{HOST} through the proxy http://{proxy.address}: TLS failed" in failure(client)
    assert proxy.requests == [("CONNECT", f"{HOST}:443")]


@pytest.mark.parametrize(
    ("scheme", "words"), [("https", "the proxy refused: 407 Proxy Authentication Required"), ("http", "407")]
)
def test_a_wrong_password_is_reported_and_not_shown(proxy: HttpProxy, scheme: str, words: str) -> None:
    client = TelegramClient(TOKEN, f"{scheme}://{HOST}", f"http://bots:{PASSWORD}2@{proxy.address}", deadline_s=2)
    assert words in failure(client)


def test_a_proxy_that_is_away_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = TelegramClient(TOKEN, f"https://{HOST}", f"http://{CREDENTIALS}@127.0.0.1:{port}", deadline_s=2)
    assert f"getMe: {HOST} through the proxy http://127.0.0.1:{port}: the proxy can't be reached" in failure(client)


def test_a_proxy_that_drips_its_answer_is_cut() -> None:
    listener, pause = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def drip() -> None:
        with listener, listener.accept()[0] as peer, suppress(OSError):
            peer.recv(65_536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(250):  # Five seconds: then a call that isn't cut fails in place of hanging.
                if pause.wait(0.02):
                    break
                peer.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    began = monotonic()
    assert "0.3 s" in failure(TelegramClient(TOKEN, f"https://{HOST}", proxy, deadline_s=0.3))
    assert monotonic() - began < 3
    pause.set()
    thread.join(5)


def test_a_poll_through_a_proxy_is_cut_at_once(telegram: FakeTelegram, proxy: HttpProxy) -> None:
    client = TelegramClient(TOKEN, f"http://{HOST}", f"http://{CREDENTIALS}@{proxy.address}")
    thread, raised = started_poll(telegram, client)
    client.cut_polls()
    thread.join(3)
    assert not thread.is_alive()
    assert "the poll was ended" in str(raised[0])
    client.close()


@pytest.mark.skipif(find_spec("socks") is not None, reason="PySocks is installed here")
def test_a_socks_proxy_without_its_package_is_explained() -> None:
    words = failure(TelegramClient(TOKEN, f"https://{HOST}", "socks5://127.0.0.1:9", deadline_s=1))
    assert "pip install PySocks" in words


def test_doctor_warns_of_a_token_in_clear(telegram: FakeTelegram, proxy: HttpProxy) -> None:
    address = f"http://{CREDENTIALS}@{proxy.address}"
    assert check_bot(TOKEN, [Chat(CHAT)], f"http://{HOST}", address) == ("warning", IN_CLEAR)
    assert check_bot(TOKEN, [Chat(CHAT)], telegram.url, None) == ("ok", f"@{USERNAME} answers and alerts 1 chat")
    telegram.gone_chats.add(CHAT)
    status, detail = check_bot(TOKEN, [Chat(CHAT), Chat(-5, 77)], telegram.url, None)
    assert status == "warning"
    assert f"can't write to {CHAT}: getChat: 403 Forbidden: bot was blocked by the user" in detail
