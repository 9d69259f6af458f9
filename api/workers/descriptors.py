"""File descriptors: as many as the system allows, the connections that fit into them, and the end of a connection."""

import os
import resource
import socket
from contextlib import suppress

import structlog

MAX_CLIENT_CONNECTIONS = 20_000
"""Limit of open connections from clients, idle ones included. A bot keeps one or two open."""

RESERVED = 200
"""Descriptors that clients don't get: for the database, TLS handshakes, the log and files."""

WANTED = MAX_CLIENT_CONNECTIONS + RESERVED

FEW_CONNECTIONS = 2_000
"""A limit below this is logged as a warning at start."""

OWN_DESCRIPTORS = "/proc/self/fd"

WITHOUT_BRACKETS = str.maketrans("", "", "[]")
"""Takes the brackets off an IPv6 address."""

log = structlog.get_logger()


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files as far as needed and allowed; return the connections that fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = connections_within(soft)
    if connections < FEW_CONNECTIONS:
        log.warning("few_file_descriptors", limit=soft, connections=connections, hint="raise LimitNOFILE or ulimit -Hn")
    return connections


def connections_within(descriptors: int) -> int:
    """Return the number of client connections for which this many descriptors are enough."""
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CLIENT_CONNECTIONS
    return max(1, min(MAX_CLIENT_CONNECTIONS, descriptors - min(RESERVED, descriptors // 2)))


def cut_connection(client: str) -> bool:
    """End the connection from this `address:port`, with all that is still to be sent; return False if there is none.

    Granian has no function for it, so this looks for the connection among the descriptors of the process.
    """
    with suppress(OSError):
        for name in os.listdir(OWN_DESCRIPTORS):
            with suppress(OSError), _socket_at(int(name)) as connection:
                peer = connection.getpeername()
                if isinstance(peer, tuple) and f"{peer[0]}:{peer[1]}" == client.translate(WITHOUT_BRACKETS):
                    connection.shutdown(socket.SHUT_RDWR)
                    return True
    return False


def _socket_at(descriptor: int) -> socket.socket:
    """Return a copy of a socket, so that nobody can close and reuse its descriptor. Raises OSError for a file."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
