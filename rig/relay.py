"""A real TCP relay on loopback between a client and a server: distance, round trips, and how a network fails.

The idea is psycopg's `fix_proxy.py`; counting and distance are added here. A round trip is a switch from bytes of the
client to bytes of the server on one connection. The client waited once, in any number of packets. A round trip is
counted before its answer is passed on: a client that has the answer finds it counted.
"""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic, sleep
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 65_536
CONNECT_TIMEOUT_S = 5.0
JOIN_TIMEOUT_S = 10.0

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the peer sees a reset, as when a network drops a connection."""


class _Pair:
    """One relayed connection: both sockets, which side sent last, and the number of directions still open.

    Nothing passes on a lost one, and neither side is told.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.client_sent_last = False
        self.open_directions = 2
        self.is_lost = False

    def close(self) -> None:
        """Close both sides, once both directions have ended."""
        self.client.close()
        self.server.close()

    def cut(self) -> None:
        """Reset both sides; the threads that pump them then end."""
        for side in (self.client, self.server):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


class Relay:
    """Relays `address` to a server across a set distance, counts round trips, and fails in the ways of a network."""

    def __init__(self, server: tuple[str, int], round_trip_s: float = 0.0) -> None:
        """Each direction takes half of `round_trip_s` seconds; opening a connection takes none."""
        self._server = server
        self._one_way_s = round_trip_s / 2
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._threads: list[threading.Thread] = []
        self._round_trips = 0
        self._connections = 0
        self._swallowing = False
        self._delivering = threading.Event()
        self._delivering.set()
        self._listener = _listening(free_port())
        self.address: tuple[str, int] = self._listener.getsockname()
        self._start_accepting()

    @property
    def round_trips(self) -> int:
        """The number of times that a client waited for an answer since the relay started, connecting included."""
        with self._lock:
            return self._round_trips

    @property
    def connections(self) -> int:
        """The number of connections relayed since the relay started."""
        with self._lock:
            return self._connections

    def url(self, server_url: str) -> str:
        """The server's address with host and port of the relay."""
        return address_at(server_url, *self.address)

    def cut(self) -> int:
        """Cut all connections and return their number; new ones are accepted."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.cut()
        return len(pairs)

    def lose(self) -> int:
        """Make all connections half-open, and return their number: nothing arrives on them any more. New ones work."""
        with self._lock:
            for pair in self._pairs:
                pair.is_lost = True
            return len(self._pairs)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Cut all connections, and refuse new ones until the block ends."""
        self._stop_accepting()
        self.cut()
        try:
            yield
        finally:
            self._listener = _listening(self.address[1])
            self._start_accepting()

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Be a black hole until the block ends: accept connections and bytes, and drop them."""
        with self._lock:
            self._swallowing = True
        try:
            yield
        finally:
            self.cut()
            with self._lock:
                self._swallowing = False

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """Keep what clients send, also of those that give up meanwhile, and deliver it when the block ends."""
        self._delivering.clear()
        try:
            yield
        finally:
            self._delivering.set()

    def close(self) -> None:
        """Stop accepting, cut every connection, and wait for every thread."""
        self._stop_accepting()
        self._delivering.set()
        self.cut()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT_S)
        assert not any(thread.is_alive() for thread in self._threads), "a relay thread didn't end"

    def _start_accepting(self) -> None:
        self._acceptor = self._thread(self._accept, self._listener)

    def _stop_accepting(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(JOIN_TIMEOUT_S)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server, CONNECT_TIMEOUT_S)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, server)
            with self._lock:
                self._pairs.add(pair)
                self._connections += 1
            self._thread(self._pump, pair, client, server, self._from_client)
            self._thread(self._pump, pair, server, client, self._from_server)

    def _pump(
        self, pair: _Pair, source: socket.socket, sink: socket.socket, passed_on: Callable[[_Pair], bool]
    ) -> None:
        receive = self._delayed(source) if self._one_way_s else partial(source.recv, CHUNK_BYTES)
        try:
            while chunk := receive():
                if passed_on(pair):
                    sink.sendall(chunk)
            if not pair.is_lost:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            pair.cut()
        with self._lock:
            pair.open_directions -= 1
            finished = pair.open_directions == 0
            if finished:
                self._pairs.discard(pair)
        if finished:
            pair.close()

    def _delayed(self, source: socket.socket) -> Callable[[], bytes]:
        """Return a `recv` that delivers each chunk late; chunks on the way travel together, as on a wire."""
        on_the_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

        def collect() -> None:
            chunk = b"more"
            while chunk:
                try:
                    chunk = source.recv(CHUNK_BYTES)
                except OSError:
                    chunk = b""
                on_the_way.put((monotonic() + self._one_way_s, chunk))

        def receive() -> bytes:
            arrives_at, chunk = on_the_way.get()
            sleep(max(0.0, arrives_at - monotonic()))
            return chunk

        self._thread(collect)
        return receive

    def _from_client(self, pair: _Pair) -> bool:
        self._delivering.wait()
        with self._lock:
            pair.client_sent_last = True
            return not (self._swallowing or pair.is_lost)

    def _from_server(self, pair: _Pair) -> bool:
        with self._lock:
            if self._swallowing or pair.is_lost:
                return False
            if pair.client_sent_last:
                pair.client_sent_last = False
                self._round_trips += 1
            return True

    def _thread(self, run: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=run, args=args, name="relay", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread


def free_port() -> int:
    """Return a free TCP port on loopback, below the range for outgoing connections.

    In that range a client could take the port of a server that is down, or even connect to itself.
    """
    for _ in range(1_000):
        port = random.randrange(15_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free TCP port between 15000 and 32000")


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def address_at(server_url: str, host: str, port: int) -> str:
    """Return a server's address with another host and port, and the same login and path."""
    parts = urlsplit(server_url)
    login = parts.netloc.rpartition("@")[0]
    place = f"{host}:{port}"
    return urlunsplit(parts._replace(netloc=f"{login}@{place}" if login else place))


@contextmanager
def relay_to(server_url: str, round_trip_s: float = 0.0) -> Iterator[Relay]:
    """Put a relay in front of the server at this address until the block ends."""
    parts = urlsplit(server_url)
    relay = Relay((parts.hostname or "127.0.0.1", parts.port or 5432), round_trip_s)
    try:
        yield relay
    finally:
        relay.close()
