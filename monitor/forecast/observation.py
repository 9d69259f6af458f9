"""The data that a forecast is made from, read from a store."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from keystore.records import Burst, Census, HourCount, LifeCount
from keystore.store import Store
from keystore.ttl import Policy
from monitor.forecast.arrivals import BURSTS_FROM, COUNTED_FROM, DAY, pauses
from monitor.forecast.history import Lives, lives_since


@dataclass(frozen=True)
class Observed:
    """The table now, its daily snapshots, and the counted events."""

    now: datetime
    policy: Policy
    guards: bool
    companies: int
    lives: tuple[LifeCount, ...]
    snapshots: tuple[Lives, ...]
    counts: tuple[HourCount, ...]
    bursts: tuple[Burst, ...]

    @cached_property
    def counted_since(self) -> datetime:
        """The hour in which counting began."""
        return min((count.hour for count in self.counts), default=self.now)

    @cached_property
    def paused(self) -> frozenset[int]:
        """The days ago on which nothing happened, in a database that is usually busy."""
        return pauses(self.counts, self.counted_since, self.now)

    @property
    def days(self) -> float:
        """The number of days on which arrivals were counted and a snapshot was taken."""
        return max(0.0, min((self.now - self.counted_since) / DAY, len(self.snapshots)))


def observe(store: Store, census: Census) -> Observed:
    """Read the data for a forecast of this store; `census` was just taken. Raises what the store raises."""
    now = census.taken_at
    return Observed(
        now=now,
        policy=store.policy,
        guards=store.guards,
        companies=census.companies,
        lives=tuple(store.life_counts()),
        snapshots=lives_since(store, now - COUNTED_FROM),
        counts=tuple(store.counts(now - COUNTED_FROM)) if store.converted else (),
        bursts=tuple(store.bursts(now - BURSTS_FROM)),
    )
