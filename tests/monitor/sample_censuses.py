"""Made-up counts and sweeps for tests of pure functions."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from keystore.records import Census, SweepRun
from rig.fixtures.clock import START

EMPTY = Census(
    taken_at=START,
    total=0,
    active=0,
    expired=0,
    guarded=0,
    without_expiry=0,
    companies=0,
    last_activity_at=None,
    oldest_created_at=None,
    created_24h=0,
    created_7d=0,
    pre_keys_rewritten_7d=0,
    size_bytes=0,
    by_type=(),
)


def census(**changes: Any) -> Census:
    """A census of an empty table, taken at START, with these fields changed."""
    return replace(EMPTY, **changes)


def run(ago: timedelta, *, error: str | None = None, finished: bool = True, deleted: int = 0) -> SweepRun:
    """A sweep that ended `ago` before START."""
    ended = START - ago
    return SweepRun(1, "host:1", ended, ended if finished else None, 12.5, deleted, {}, error)
