"""Leader election: of several processes on one database, the one that holds a lease does the work."""

import os
import secrets
import socket
from dataclasses import dataclass, field

from keystore.records import Lease
from keystore.upkeep import Upkeep
from monitor.running.bounded_calls import BoundedCalls


def new_holder() -> str:
    """A new name to hold leases under: the host, the process id, and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


@dataclass
class Leader:
    """This process as a candidate for one lease, which lasts for `lease_s` seconds after it was renewed."""

    store: Upkeep
    lease_name: str
    lease_s: float
    questions: BoundedCalls
    holder: str = field(default_factory=new_holder)
    _lease: Lease | None = None

    def renew(self) -> bool:
        """Take the free lease or renew the own one; True when this process holds it. Raises what the store raises."""
        self._lease = self.questions.call(lambda: self.store.acquire_lease(self.lease_name, self.holder, self.lease_s))
        return self._lease is not None

    def resign(self, within_s: float) -> None:
        """Release the lease, so that another process needn't wait for its end. Raises what the store raises."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self.questions.call(lambda: self.store.release_lease(lease), within_s)
