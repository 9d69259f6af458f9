"""The simulated traffic of one company: contacts that come, stay or leave, groups, reconnects and strangers.

The traffic of each hour goes through the real store: reads as `get`, and all changes as one `set`. So a month is some
thousand calls. The same mix always gives the same month.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from math import exp, sin, tau

from msgspec import Struct

from keystore.store import Store

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
REFILL_BELOW = 5
"""The number of unused pre-keys below which Baileys makes new ones (its MIN_PREKEY_COUNT)."""

SESSION_BYTES, SMALL_BYTES = 1_150, 60
COLLECTIONS = ("critical_block", "critical_unblock_low", "regular", "regular_high", "regular_low")


class Mix(Struct, frozen=True):
    """The composition of one company's traffic. Rates are means per day; `staying` and `strangers` are shares.

    `staying` of the new contacts stay: they write `messages` times a day (each at a rate around it) for `stays_days` on
    average. The others leave after their first message. Reconnects come every `reconnect_days`, at equal intervals with
    a `regularity` of 1, at random with 0, and each writes `burst` pre-keys. `strangers` of the new contacts write
    first, and use up a pre-key.
    """

    seed: int
    contacts: float
    staying: float
    messages: float
    stays_days: float
    strangers: float
    reconnect_days: float
    regularity: float
    burst: int
    groups: int
    group_members: int
    group_messages: float
    first_sync: int


def random_mix(seed: int) -> Mix:
    """A mix for an account between a private one and a busy support line.

    Reconnects are at least half regular, as restarts, deployments and a phone's network are. If they came entirely at
    random, and each wrote 250 keys into an account of 1,000, one more or less in a week would be 25 % of all keys. No
    forecast can know that.
    """
    rng = random.Random(f"mix {seed}")
    return Mix(
        seed=seed,
        contacts=rng.choice((20, 45, 90, 160)) * rng.uniform(0.8, 1.25),
        staying=rng.uniform(0.05, 0.6),
        messages=rng.choice((0.3, 1.0, 3.0, 8.0)) * rng.uniform(0.7, 1.4),
        stays_days=rng.uniform(5, 60),
        strangers=rng.uniform(0.1, 0.9),
        reconnect_days=rng.uniform(2, 10),
        regularity=rng.choice((0.5, 0.75, 0.95)),
        burst=rng.choice((30, 100, 250)),
        groups=rng.choice((0, 5, 15, 40)),
        group_members=rng.choice((5, 12, 30)),
        group_messages=rng.uniform(0.3, 10),
        first_sync=rng.choice((0, 50, 200, 400)),
    )


DEMO_LIKE = Mix(
    seed=20251008,
    contacts=40,
    staying=0.35,
    messages=1.5,
    stays_days=40,
    strangers=0.5,
    reconnect_days=5,
    regularity=0.5,
    burst=248,
    groups=10,
    group_members=12,
    group_messages=2.0,
    first_sync=0,
)
"""A company about as busy as the original operator's, which continues from the 665 keys of the demo data."""


class _Contact(Struct):
    number: int
    rate: float
    leaves: datetime


class Company:
    """A company whose traffic runs through a store, hour by hour."""

    def __init__(self, store: Store, company_id: str, mix: Mix, began: datetime, *, paired: bool) -> None:
        """With `paired`, the company already has its first sync and its pre-keys."""
        self._store = store
        self._company = company_id
        self._mix = mix
        self._rng = random.Random(f"life {mix.seed}")
        self._value = self._rng.randbytes
        self._contacts: list[_Contact] = []
        self._numbers = count(10_000_001)
        self._next_pre_key = 1 if not paired else 100_000
        self._unused: list[str] = []
        self._reads: dict[str, set[str]] = defaultdict(set)
        self._writes: dict[str, dict[str, bytes | None]] = defaultdict(dict)
        self._reconnects = began + self._until_reconnect()
        self.messages = 0
        if not paired:
            self._pair(began)

    def live(self, hour: datetime, set_clock: Callable[[datetime], None]) -> None:
        """Simulate one hour of traffic, written at a moment within it; `set_clock` sets the store's time."""
        rhythm = 1 + 0.8 * sin(tau * (hour.hour - 9) / 24)
        moment = hour + self._rng.random() * HOUR
        for _ in range(_poisson(self._rng, self._mix.contacts * rhythm / 24)):
            self._new_contact(moment)
        self._contacts = [contact for contact in self._contacts if contact.leaves > moment]
        for contact in self._contacts:
            if self._rng.random() < 1 - exp(-contact.rate * rhythm / 24):
                self._talk(contact.number)
        for group in range(self._mix.groups):
            for _ in range(_poisson(self._rng, self._mix.group_messages * rhythm / 24)):
                self._group_message(group)
        if hour.hour == 4:
            for collection in COLLECTIONS:
                self._writes["app-state-sync-version"][collection] = self._value(SMALL_BYTES)
        set_clock(moment)
        if moment >= self._reconnects or len(self._unused) < REFILL_BELOW:
            self._reconnect(moment)
        for key_type, ids in self._reads.items():
            self._store.get(self._company, key_type, ids)
        if self._writes:
            self._store.set(self._company, self._writes, creds=b"{}")
        self._reads.clear()
        self._writes.clear()

    def _pair(self, began: datetime) -> None:
        """The first sync: the account's address book, and its first app-state sync keys."""
        for _ in range(self._mix.first_sync):
            number = self._map_number()
            if self._rng.random() < self._mix.staying:
                self._stay(number, began)
        for number in range(3):
            self._writes["app-state-sync-key"][f"AAAAA{number}"] = self._value(SMALL_BYTES)

    def _reconnect(self, moment: datetime) -> None:
        self._store.load(self._company)
        fresh = [f"{self._next_pre_key + n}" for n in range(self._mix.burst)]
        self._next_pre_key += self._mix.burst
        self._unused = fresh  # The server hands out the newest.
        self._writes["pre-key"].update((key_id, self._value(150)) for key_id in fresh)
        if moment >= self._reconnects:
            self._reconnects = moment + self._until_reconnect()

    def _until_reconnect(self) -> timedelta:
        regular = self._mix.regularity + (1 - self._mix.regularity) * self._rng.expovariate(1.0)
        return self._mix.reconnect_days * regular * DAY

    def _new_contact(self, moment: datetime) -> None:
        if self._rng.random() < self._mix.strangers and self._unused:
            self._writes["pre-key"][self._unused.pop()] = None
        number = self._map_number()
        self._writes["device-list"][f"{number}"] = self._value(SMALL_BYTES)
        self._talk(number)
        if self._rng.random() < self._mix.staying:
            self._stay(number, moment)

    def _stay(self, number: int, moment: datetime) -> None:
        rate = self._mix.messages * self._rng.gammavariate(0.8, 1 / 0.8)
        leaves = moment + self._rng.expovariate(1 / self._mix.stays_days) * DAY
        self._contacts.append(_Contact(number, rate, leaves))

    def _talk(self, number: int) -> None:
        self.messages += 1
        self._reads["session"].add(f"{number}.0")
        self._writes["session"][f"{number}.0"] = self._value(SESSION_BYTES)
        self._reads["lid-mapping"].add(f"{number}")
        self._reads["device-list"].add(f"{number}")
        if self._rng.random() < 0.2:
            self._writes["tctoken"][f"{number}@s.whatsapp.net"] = self._value(SMALL_BYTES)

    def _group_message(self, group: int) -> None:
        self.messages += 1
        member = int(self._rng.random() ** 2 * self._mix.group_members)
        name = f"{group}@g.us"
        self._writes["sender-key"][f"{name}::{member}::0"] = self._value(300)
        if member == 0:  # The bot itself remembers the members that it sent its key.
            self._writes["sender-key-memory"][name] = self._value(SMALL_BYTES)
        else:
            self._reads["sender-key"].add(f"{name}::{member}::0")

    def _map_number(self) -> int:
        """Return the next contact's number, after writing its mapping in both directions."""
        number = next(self._numbers)
        lid = f"9{number}"
        self._writes["lid-mapping"] |= {f"{number}": b'"%b"' % lid.encode(), f"{lid}_reverse": b'"%d"' % number}
        return number


def _poisson(rng: random.Random, mean: float) -> int:
    """A Poisson-distributed number (Knuth): the count of events until the waiting times fill one unit."""
    number, left = 0, rng.expovariate(1.0)
    while left < mean:
        number += 1
        left += rng.expovariate(1.0)
    return number
