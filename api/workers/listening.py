"""The listening socket that workers inherit, and the check of the certificate that they serve with."""

import errno
import socket
import ssl
from dataclasses import dataclass

from api.workers.config import BACKLOG, Tls
from keystore.errors import InvalidInput, KeystoreError

_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), number)
    for name, number in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
    if hasattr(socket, name)
]
"""Options that each connection inherits. A client whose machine is gone blocks a thread for a minute at most."""


@dataclass(frozen=True)
class Address:
    """The host and port at which the API is served."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address) -> socket.socket:
    """Return a listening socket. Raises InvalidInput, KeystoreError, in one line."""
    try:
        family, *_, sockaddr = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput(f"KEYSTORE_HTTP: {address.host} is no address of this machine ({error.strerror})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, option, number in _KEEP_ALIVE:
            listener.setsockopt(level, option, number)
        listener.bind(sockaddr)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise KeystoreError(
                f"KEYSTORE_HTTP: {address} is in use by another program; choose another port, or off"
            ) from error
        raise KeystoreError(f"KEYSTORE_HTTP: can't listen on {address}: {error.strerror}") from error
    return listener


def require_usable(tls: Tls) -> None:
    """Raise InvalidInput if the certificate or its key can't be read, or they don't belong together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key, password="")
    except (OSError, ValueError) as error:
        reason = error.strerror or "they aren't PEM files, or not each other's" if isinstance(error, OSError) else error
        raise InvalidInput(
            f"KEYSTORE_TLS_CERT {tls.cert}, KEYSTORE_TLS_KEY {tls.key}: {reason}; name a PEM chain and its key without "
            "a passphrase"
        ) from error
