"""A real HTTP proxy on loopback: tunnels for CONNECT, and plain requests passed on, with a password if one is set.

`routes` replaces the network behind the proxy: a host in it is reached at its address there. So a test can use a name
that only the proxy can resolve.
"""

import http.client
import socket
import threading
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 65_536
CONNECT_TIMEOUT_S = 5.0


class HttpProxy:
    """The proxy, for a block. `requests` lists what it was asked for: the method, and the address or the target."""

    def __init__(self, routes: Mapping[str, tuple[str, int]], credentials: str = "") -> None:
        """`credentials` are `user:password`, "" for a proxy that asks for none."""
        self.requests: list[tuple[str, str]] = []
        self.routes = routes
        self.expected = f"Basic {b64encode(credentials.encode()).decode()}" if credentials else None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="http-proxy")

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(CONNECT_TIMEOUT_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: HttpProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore it: a client that disconnects is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        """Log nothing: tests look at `requests`."""

    def do_CONNECT(self) -> None:
        """Open a tunnel."""
        if not self._admitted():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection(self._address(host, int(port)), CONNECT_TIMEOUT_S) as target:
            self.send_response(200, "Connection established")
            self.end_headers()
            target.settimeout(None)
            back = threading.Thread(target=_pump, args=(target, self.connection), daemon=True)
            back.start()
            _pump(self.connection, target)
            back.join(CONNECT_TIMEOUT_S)
        self.close_connection = True

    def do_POST(self) -> None:
        """Pass a request on, and its answer back."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._admitted():
            return
        url = urlsplit(self.path)
        connection = http.client.HTTPConnection(*self._address(url.hostname or "", url.port or 80), timeout=60)
        connection.request("POST", url.path, body, {"Content-Type": self.headers["Content-Type"]})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("Content-Length", f"{len(content)}")
        self.end_headers()
        self.wfile.write(content)

    def _admitted(self) -> bool:
        self.server.proxy.requests.append((self.command, self.path))
        if self.server.proxy.expected in (None, self.headers["Proxy-Authorization"]):
            return True
        self.send_response(407, "Proxy Authentication Required")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _address(self, host: str, port: int) -> tuple[str, int]:
        return self.server.proxy.routes.get(host, (host, port))


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until the source ends."""
    with suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
