"""The cost of sealed values in Python: a load and a message's write, with a secret key and without.

Two databases of one server have the same keys. Both stores take turns in one run.
"""

import os
from base64 import b64encode
from functools import partial

from msgspec import Struct

from bench.gates.operations import Turn, in_turn
from bench.limits import Limit, Target
from bench.measuring import timed_ms
from keystore.opening import open_store
from keystore.store import Store
from rig.baileys_state import real_creds, real_keys
from rig.postgres_server import database_on

ROUNDS = 200
UNIT = "× unsealed"
LOAD_LIMIT, WRITE_LIMIT = Limit(1.6, UNIT), Limit(1.1, UNIT)


class Sealed(Struct, frozen=True):
    """Medians in milliseconds with sealed and with plain values, and their ratios."""

    load_ms: float
    plain_load_ms: float
    load_ratio: float
    write_ms: float
    plain_write_ms: float
    write_ratio: float

    @property
    def targets(self) -> tuple[Target, ...]:
        """The limits of a load and of a message's write."""
        load = f"{self.load_ratio:.2f} × ({self.load_ms:.2f} against {self.plain_load_ms:.2f} ms)"
        write = f"{self.write_ratio:.2f} × ({self.write_ms:.2f} against {self.plain_write_ms:.2f} ms)"
        return (
            Target.judged("sealed_load", "load of an account, sealed", load, (self.load_ratio, LOAD_LIMIT)),
            Target.judged("sealed_write", "one message’s write, sealed", write, (self.write_ratio, WRITE_LIMIT)),
        )


def measure(server: str, rounds: int = ROUNDS) -> Sealed:
    """Measure on two new databases of this PostgreSQL server."""
    key = b64encode(os.urandom(32)).decode()
    with (
        database_on(server, "bench_sealed") as sealed_url,
        database_on(server, "bench_plain") as plain_url,
        open_store(sealed_url, secret_keys=key) as sealed,
        open_store(plain_url) as plain,
    ):
        for store in (sealed, plain):
            store.set("one", real_keys(), creds=real_creds())
        assert sealed.load("one") == plain.load("one")
        load_ms, plain_load_ms = in_turn(_load(sealed), _load(plain), rounds)
        write_ms, plain_write_ms = in_turn(_write(sealed), _write(plain), rounds)
    return Sealed(
        load_ms=round(load_ms, 3),
        plain_load_ms=round(plain_load_ms, 3),
        load_ratio=round(load_ms / plain_load_ms, 3),
        write_ms=round(write_ms, 3),
        plain_write_ms=round(plain_write_ms, 3),
        write_ratio=round(write_ms / plain_write_ms, 3),
    )


def _load(store: Store) -> Turn:
    return lambda _: timed_ms(partial(store.load, "one"))


def _write(store: Store) -> Turn:
    """Turns that write one session of the company again."""
    key_id, value = next(iter(real_keys()["session"].items()))
    return lambda number: timed_ms(lambda: store.set("one", {"session": {key_id: b"%d" % (number % 10) + value[1:]}}))
