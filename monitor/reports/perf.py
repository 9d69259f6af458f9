"""The `perf` report: the duration of a bot's operations, measured on the live store.

The loaded state is a real company's; a load renews nothing. The written keys belong to a probe company, which is
deleted again before the report is made. Keys left by an interrupted run are deleted by the next one.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Literal

from keystore.errors import InvalidInput, StoreUnavailable
from keystore.ids import canonical_company
from keystore.store import Store
from keystore.tally import PROBE_COMPANY
from monitor.reports.check import Verdict

Rating = Literal["excellent", "good", "acceptable", "slow"]

LEASE_S = 120.0
RECONNECT_PRE_KEYS = 250
"""The pre-keys that Baileys writes in one burst when it reconnects."""

GET_IDS = 20
ROUNDS = 5

RATINGS_MS: tuple[tuple[float, Rating], ...] = ((200, "excellent"), (500, "good"), (1000, "acceptable"))
"""The original operator's scale for a load: each rating is for loads below that many ms."""


@dataclass(frozen=True)
class PerfReport:
    """Medians in milliseconds over `rounds`. `keys` and `loaded_bytes` are the size of one load.

    `reconnect_ms` is the time that a returning bot waits: a load and a burst. `rating` is for the load,
    `within_budget` for the reconnect, `verdict` for both.
    """

    database: str
    company: str | None
    load_ms: float
    get_ms: float
    burst_ms: float
    reconnect_ms: float
    keys: int
    loaded_bytes: int
    size_bytes: int
    rating: Rating
    budget_ms: float
    within_budget: bool
    rounds: int

    @property
    def verdict(self) -> Verdict:
        """The verdict in the words that all reports share."""
        if self.rating == "slow":
            return "critical"
        return "warning" if self.rating == "acceptable" or not self.within_budget else "ok"


def perf_report(
    store: Store,
    budget_ms: float,
    company_id: str | None = None,
    *,
    rounds: int = ROUNDS,
    progress: Callable[[int, int], None] | None = None,
) -> PerfReport:
    """Time load, get and burst. `company_id` defaults to the company with the most keys.

    Raises InvalidInput for a company without state, and StoreUnavailable while another `perf` is at work here.
    """
    lease = store.acquire_lease("perf", secrets.token_hex(8), LEASE_S)
    if lease is None:
        raise StoreUnavailable(f"{store.database}: another `perf` is at work here; try again in two minutes")
    loads, gets, bursts = [], [], []
    with ExitStack() as cleanup:
        cleanup.callback(store.release_lease, lease)
        _remove_probe(store)
        company = store.largest_company() if company_id is None else canonical_company(company_id)
        state = store.load(company or PROBE_COMPANY)
        if company_id is not None and state.creds is None and not state.keys:
            raise InvalidInput(f"company_id: {company} has no keys and no creds in {store.database}")
        cleanup.callback(_remove_probe, store)
        for turn in range(rounds):
            burst = {f"{turn * RECONNECT_PRE_KEYS + n}": _pre_key() for n in range(RECONNECT_PRE_KEYS)}
            loads.append(_ms(store.load, company or PROBE_COMPANY))
            bursts.append(_ms(store.set, PROBE_COMPANY, {"pre-key": burst}))
            gets.append(_ms(store.get, PROBE_COMPANY, "pre-key", list(burst)[:GET_IDS]))
            if progress is not None:
                progress(turn + 1, rounds)
    load_ms, burst_ms = median(loads), median(bursts)
    return PerfReport(
        database=store.database,
        company=company,
        load_ms=round(load_ms, 2),
        get_ms=round(median(gets), 2),
        burst_ms=round(burst_ms, 2),
        reconnect_ms=round(load_ms + burst_ms, 2),
        keys=state.total,
        loaded_bytes=sum(len(value) for by_id in state.keys.values() for value in by_id.values()),
        size_bytes=store.census().size_bytes,
        rating=rating(load_ms),
        budget_ms=budget_ms,
        within_budget=load_ms + burst_ms <= budget_ms,
        rounds=rounds,
    )


def _remove_probe(store: Store) -> None:
    """Delete the probe's keys. `clear` would keep them in the trash."""
    keys = store.load(PROBE_COMPANY).keys
    if keys:
        store.set(PROBE_COMPANY, {key_type: dict.fromkeys(by_id) for key_type, by_id in keys.items()})


def rating(load_ms: float) -> Rating:
    """The rating of a load with this duration."""
    return next((word for below_ms, word in RATINGS_MS if load_ms < below_ms), "slow")


def _ms(call: Callable[..., object], *args: object) -> float:
    began = perf_counter()
    call(*args)
    return (perf_counter() - began) * 1000


def _pre_key() -> bytes:
    """A value of a pre-key's size; not a usable key."""
    return json.dumps({"private": secrets.token_hex(38), "public": secrets.token_hex(20)}).encode()
