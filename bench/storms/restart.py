"""A restart: accounts that reconnect at the same moment, each in a thread and without an open connection."""

from functools import partial

from msgspec import Struct

from bench.limits import Limit, Target
from bench.measuring import timed
from bench.storms.companies import at_once, burst, fill, reconnect, state
from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.records import AuthState

ACCOUNTS = 90
RESTART_LIMIT = Limit(5, "s")


class Restart(Struct, frozen=True):
    """Accounts that restarted at the same moment; `took_s` is the time until the last one's burst was durable."""

    accounts: int
    keys_read: int
    keys_written: int
    took_s: float
    slowest_ms: float

    @property
    def target(self) -> Target:
        """The limit for the whole restart."""
        what = f"{self.accounts} accounts restart at once"
        return Target.judged("restart", what, f"{self.took_s:.2f} s", (self.took_s, RESTART_LIMIT))


def restart(url: str, accounts: int = ACCOUNTS) -> Restart:
    """Restart these accounts on an empty database, and compare what they read and wrote with what they should.

    Raises KeystoreError.
    """
    with open_store(url) as store:
        names = fill(store, url, accounts)
    with open_store(url) as store:
        took_s, reconnects = at_once([partial(timed, partial(reconnect, store, name)) for name in names])
        written = [store.load(name) for name in names]
    before = state()
    after = AuthState(before.creds, {**before.keys, "pre-key": before.keys["pre-key"] | burst()})
    wrong = sum(read != before for read, _ in reconnects) + sum(loaded != after for loaded in written)
    if wrong:
        raise KeystoreError(f"{wrong} of {2 * accounts} states read are not what was written")
    return Restart(
        accounts=accounts,
        keys_read=sum(read.total for read, _ in reconnects),
        keys_written=sum(loaded.total for loaded in written) - accounts * before.total,
        took_s=round(took_s, 2),
        slowest_ms=round(max(ms for _, ms in reconnects), 1),
    )
