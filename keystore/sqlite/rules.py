"""The rules that SQLite's statements call as functions: each stands here once, as on Postgres in `functions/`.

Times are microseconds since 1970, as in the tables. The lifetimes are in `keystore.ttl`.
"""

import re
from collections.abc import Callable, Mapping

from keystore.ids import MAX_LEASE_S
from keystore.ttl import GUARDS
from keystore.values.codec import PUT_BACK, nonce_of

LONGEST_LEASE_US = (MAX_LEASE_S + 60) * 1_000_000


def lease_is_live(expires_at: int, now: int) -> bool:
    """Return True while a lease protects its company.

    One that ends later than the longest lease from now was made before the clock was set back, and protects nothing.
    """
    return now < expires_at <= now + LONGEST_LEASE_US


_REVERSE = "_reverse"
_ADDRESS_PARTS = re.compile("[._:@]")
_MAPPED = re.compile(rb'\x00"([0-9A-Za-z@:._-]+)"')


def guard(key_type: str) -> str | None:
    """Return the guard that a type of key has; None for a type without one."""
    return GUARDS.get(key_type)


def group(key_type: str, key_id: str) -> str | None:
    """Return the group to which a sender key or a sender-key-memory belongs; None for other types."""
    if key_type == "sender-key":
        return key_id.partition("::")[0]
    return key_id if key_type == "sender-key-memory" else None


def user(address: str) -> str:
    """Return the user of an address: `4915` in 4915.0, 4915_1.3, 4915@s.whatsapp.net and 4915_reverse."""
    return _ADDRESS_PARTS.split(address, maxsplit=1)[0]


def mapped(value: bytes) -> str | None:
    """Return the user that a row of lid-mapping names in its stored value; None if the value can't be read."""
    match = _MAPPED.fullmatch(value)
    return match and user(match[1].decode())


def lid(key_id: str, mapped_user: str | None) -> str | None:
    """Return the LID of a row of lid-mapping: a forward row's value, or the id of a reverse row."""
    if mapped_user is None:
        return None
    return user(key_id) if key_id.endswith(_REVERSE) else mapped_user


def shown(stored: bytes | str | int | None, nonce: bytes | str | int | None) -> bytes | str | int | None:
    """Return a stored value as it is read. One with another nonce than its row gets a format that opens for nobody.

    In a damaged file a column may have another type. That is left as it is, because the reader reports it.
    """
    if isinstance(stored, bytes) and isinstance(nonce, bytes) and nonce_of(stored) not in (None, nonce):
        return PUT_BACK + stored[1:]
    return stored


def unit(key_type: str, key_id: str, mapped_user: str | None) -> str | None:
    """Return the unit with which a key stays or goes: its group, its LID or its user; None for a key without one."""
    of_type = guard(key_type)
    if of_type == "group":
        return group(key_type, key_id)
    if of_type == "pair":
        return lid(key_id, mapped_user)
    return user(key_id) if of_type == "contact" else None


FUNCTIONS: Mapping[str, Callable[..., str | bytes | int | None]] = {
    "keystore_lease_is_live": lease_is_live,
    "keystore_guard": guard,
    "keystore_user": user,
    "keystore_mapped": mapped,
    "keystore_lid": lid,
    "keystore_unit": unit,
    "keystore_nonce_of": nonce_of,
    "keystore_shown": shown,
}
"""The functions by the names under which statements call them."""
