"""Leader election: of several processes on one database, the one that holds a lease does the work."""

import os
import secrets
import socket

from keystore.records import Lease
from keystore.store import Upkeep
from monitor.running.bounded_calls import BoundedCalls


class Leader:
    """This process as a candidate for one lease."""

    def __init__(self, store: Upkeep, lease_name: str, lease_s: float, questions: BoundedCalls) -> None:
        """`lease_s` is how long the lease lasts after it was renewed."""
        self.holder = new_holder()
        self._store = store
        self._lease_name = lease_name
        self._lease_s = lease_s
        self._questions = questions
        self._lease: Lease | None = None

    def renew(self) -> bool:
        """Take the free lease or renew the own one; True when this process holds it. Raises what the store raises."""
        self._lease = self._questions.call(
            lambda: self._store.acquire_lease(self._lease_name, self.holder, self._lease_s)
        )
        return self._lease is not None

    def resign(self, within_s: float) -> None:
        """Release the lease, so that another process needn't wait for its end. Raises what the store raises."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._questions.call(lambda: self._store.release_lease(lease), within_s)


def new_holder() -> str:
    """A new name to hold leases under: the host, the process id, and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
