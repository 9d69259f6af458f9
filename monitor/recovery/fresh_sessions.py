"""Makes an old state safe to use: it loses its ratchets, and the pre-key counters in its creds rise.

A session's ratchet moves on with each message. An older copy can't read messages that were encrypted since, and would
use message keys a second time. So the ratchets are left out, and bots agree on new ones. Creds, identities, pre-keys,
mappings and app state don't move on. The counters pass every pre-key id that may have been given out since. Otherwise
two pre-keys could get the same id.
"""

import json
from collections.abc import Iterable
from typing import Any

RATCHETS = ("session", "sender-key", "sender-key-memory")
"""The types of key on which bots agree again.

A `sender-key-memory` lists who has the group's sender key, so the two go together.
"""

COUNTERS = ("nextPreKeyId", "firstUnuploadedPreKeyId")
"""The pre-key counters in the creds."""

IDS_SINCE = 10_000
"""Pre-key ids that may have been given out since a state was saved: a month of 300 new contacts a day."""

MOST_PRE_KEY_ID = 0xFF_FF_FF
"""The largest id of a pre-key: the protocol sends it in three bytes."""


def with_later_pre_keys(creds: bytes, others: Iterable[bytes], pre_key_ids: Iterable[str]) -> bytes:
    """Return the creds with counters that are past every pre-key id which may have been given out.

    `others` are newer creds of the same account, if there are any. `pre_key_ids` are the ids of stored pre-keys. Creds
    that aren't a JSON object with the two counters are returned as they are.
    """
    document = _document(creds)
    if not all(_is_id(document.get(name)) for name in COUNTERS):
        return creds
    used_ids = [int(id_) for id_ in pre_key_ids if id_.isdecimal() and int(id_[:9]) <= MOST_PRE_KEY_ID]
    for known_creds in (document, *map(_document, others)):
        used_ids += [known_creds[name] for name in COUNTERS if _is_id(known_creds.get(name))]
    next_id = min(max(used_ids) + IDS_SINCE, MOST_PRE_KEY_ID)
    document |= dict.fromkeys(COUNTERS, next_id)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _document(creds: bytes) -> dict[str, Any]:
    """Return creds as a JSON object, which is empty if they aren't any."""
    try:
        document = json.loads(creds)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_PRE_KEY_ID
