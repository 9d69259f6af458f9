"""The rules that SQLite's statements call as functions: each stands here once, as on Postgres in `functions/`.

Times are microseconds since 1970, as in the tables. The lifetimes are in `keystore.ttl`.
"""

from collections.abc import Callable, Mapping

from keystore.ids import MAX_LEASE_S

LONGEST_LEASE_US = (MAX_LEASE_S + 60) * 1_000_000
HOUR_US = 3_600_000_000


def lease_is_live(expires_at: int, now: int) -> bool:
    """Return True while a lease protects its company.

    One that ends later than the longest lease from now was made before the clock was set back, and protects nothing.
    """
    return now < expires_at <= now + LONGEST_LEASE_US


def group(key_type: str, key_id: str) -> str | None:
    """Return the group to which a sender key or a sender-key-memory belongs; None for other types."""
    if key_type == "sender-key":
        return key_id.partition("::")[0]
    return key_id if key_type == "sender-key-memory" else None


def generation_from(newest: int) -> int:
    """Return the time from which pre-keys are a company's newest generation."""
    return newest - HOUR_US


def group_stays(has_memory: bool, has_staying_key: bool) -> bool:
    """Return True when a group stays: it has a sender-key-memory, and a key that isn't to go."""
    return bool(has_memory and has_staying_key)


def guarded(key_type: str, updated_at: int, written_from: int | None, group_held: bool) -> bool:
    """Return True when a guard keeps a key that is past its expiry."""
    if key_type == "app-state-sync-key":
        return True
    if key_type == "pre-key":
        return written_from is not None and updated_at >= written_from
    return bool(group_held)


FUNCTIONS: Mapping[str, Callable[..., str | int | None]] = {
    "keystore_lease_is_live": lease_is_live,
    "keystore_group": group,
    "keystore_generation_from": generation_from,
    "keystore_group_stays": group_stays,
    "keystore_guarded": guarded,
}
"""The functions by the names under which statements call them."""
