"""A state without its ratchets: what is left of an old state that was used since it was saved.

A session's ratchet moves on with each message. An older copy of it can't read what was encrypted since, and would use
message keys a second time. Creds, identities, pre-keys, mappings and app state don't move on. So the ratchets are left
out, for bots to agree on new ones. The creds' counters pass every pre-key id that may have been given out since: two
pre-keys with one id are the other half of this harm.
"""

import json
from collections.abc import Iterable
from typing import Any

RATCHETS = ("session", "sender-key", "sender-key-memory")
"""The types on which bots agree again. A group's memory says who has the sender key, so it goes with it."""

COUNTERS = ("nextPreKeyId", "firstUnuploadedPreKeyId")

IDS_SINCE = 10_000
"""Pre-key ids that may have been given out since a state was saved: a month of 300 new contacts a day."""

MOST_PRE_KEY_ID = 0xFF_FF_FF
"""The largest id of a pre-key: the protocol sends three bytes."""


def with_later_pre_keys(creds: bytes, others: Iterable[bytes], pre_key_ids: Iterable[str]) -> bytes:
    """Return creds whose next pre-key has an id that nobody can have been given.

    `others` are newer creds of the same account, where there are any, and `pre_key_ids` those of stored pre-keys. Creds
    that aren't a JSON object with the two counters are returned as they are.
    """
    document = _document(creds)
    if not all(_is_id(document.get(name)) for name in COUNTERS):
        return creds
    used = [int(id_) for id_ in pre_key_ids if id_.isdecimal() and len(id_) < len(str(MOST_PRE_KEY_ID)) + 1]
    for known in (document, *map(_document, others)):
        used += [known[name] for name in COUNTERS if _is_id(known.get(name))]
    following = min(max(used) + IDS_SINCE, MOST_PRE_KEY_ID)
    document |= dict.fromkeys(COUNTERS, following)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _document(creds: bytes) -> dict[str, Any]:
    """Return creds as a JSON object; an empty one where they aren't."""
    try:
        document = json.loads(creds)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_PRE_KEY_ID
