"""Limits the look-ups of unknown tokens, for each address that sends them.

Anybody can make tokens up, and each would be a query. A token that this worker has seen before isn't limited.
"""

import threading
from contextlib import suppress
from ipaddress import ip_network
from time import monotonic

from api.access.allowance import Allowance
from api.problems import Problem, retry_after

BURST = 20
LOOKUPS_PER_S = 2.0
"""Look-ups of unknown tokens that an address gets at first, and each second after that."""

MAX_ADDRESSES = 10_000


class StrangerLimit:
    """The allowance of each address. One for each worker, thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowances: dict[str, Allowance] = {}

    def require_allowance(self, address: str) -> None:
        """Raise Problem (429) if this address has sent too many unknown tokens."""
        with self._lock:
            allowance = self._allowances.get(network_of(address))
            left = BURST if allowance is None else allowance.refilled(monotonic())
        if left < 1:
            wait_s = (1 - left) / LOOKUPS_PER_S
            raise Problem("too-many-requests", "too many unknown tokens from this address; wait", retry_after(wait_s))

    def count(self, address: str) -> None:
        """Count an unknown token."""
        now, network = monotonic(), network_of(address)
        with self._lock:
            if len(self._allowances) >= MAX_ADDRESSES:
                self._allowances = {known: left for known, left in self._allowances.items() if not left.is_full(now)}
            allowance = self._allowances.get(network) or Allowance.full(BURST, LOOKUPS_PER_S, now)
            allowance.refilled(now)
            allowance.spend(1)
            if len(self._allowances) < MAX_ADDRESSES:
                self._allowances[network] = allowance


def network_of(address: str) -> str:
    """Return the address, or the first half of an IPv6 address: its other half is its owner's to choose."""
    if ":" not in address:
        return address
    with suppress(ValueError):
        return str(ip_network((address, 64), strict=False))
    return address
