"""The demo data set: the 665 keys that the original operator's table held on 2025-10-08, for `run.py seed` and tests.

Every count is that table's. The values are made up, with the shapes and sizes of real Baileys sessions. The same `now`
always gives the same rows. Ages stay 3 hours away from the 24-hour and the 7-day mark, so that the counts by age hold
for some hours. (For the same reason yesterday's burst was 20.5 hours ago; after 20:30 UTC that is the same day.)
"""

import base64
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import KeyRow
from keystore.store import Store
from keystore.ttl import DIARY, expires_at

COMPANY = "demo"
"""The id of the company that `seed` writes, unless another is named."""

SEED = 20251008
"""The seed of the random numbers: the date of the data set."""

RECONNECT_PRE_KEYS = 248
RECONNECT_AGE = timedelta(hours=20, minutes=30)
TODAY_PRE_KEYS = (0.2, 0.5, 0.9)
"""The creation times of today's pre-keys, as shares of the day so far."""

FIRST_PRE_KEY_ID = 1182
OLDEST_AGE = timedelta(days=17, hours=6)
"""The age of the oldest keys: those of the imported folder, among them the mis-split `lid` rows."""

LID_PAIRS, LID_MAPPING_PAIRS = 86, 28
"""Pairs of phone number and LID. Each is stored both ways, in 172 and 56 rows."""

LAST_DAY = (timedelta(minutes=10), timedelta(hours=21))
LAST_WEEK = (timedelta(hours=27), timedelta(days=7, hours=-3))
BEFORE = (timedelta(days=7, hours=3), OLDEST_AGE)
Ages = tuple[timedelta, timedelta]
"""The youngest and the oldest age of a group of keys."""

LONGEST_SILENCE = timedelta(days=5)
"""The longest time since a key was rewritten: a `lid-mapping` expires 7 days after that, so none is expired."""

SESSIONS = ((LAST_DAY, 37), (LAST_WEEK, 55), (BEFORE, 28))
LID_MAPPINGS = ((LAST_DAY, 32), (LAST_WEEK, 24))
OTHERS: dict[str, tuple[tuple[Ages, int], ...]] = {
    "app-state-sync-key": ((BEFORE, 3),),
    "app-state-sync-version": ((BEFORE, 5),),
    "device-list": ((LAST_DAY, 4), (LAST_WEEK, 8), (BEFORE, 12)),
    "sender-key-memory": ((LAST_WEEK, 2), (BEFORE, 8)),
    "tctoken": ((LAST_DAY, 6), (LAST_WEEK, 6), (BEFORE, 12)),
}
"""The 66 keys of other types, all of which live 14 days: `(ages, keys)` by type."""

APP_STATE_PATCHES = {
    "critical_block": 3,
    "critical_unblock_low": 160,
    "regular": 40,
    "regular_high": 150,
    "regular_low": 20,
}
"""The entries in the index of each app-state collection, which takes 634 bytes to 21 kB."""

GROUP_MEMBERS = 20
REWRITTEN = frozenset({"session", "lid-mapping", "app-state-sync-version", "device-list", "sender-key-memory"})
"""Types that a bot writes again. Keys of other types have their `created_at` as `updated_at`."""


@dataclass(frozen=True)
class SeedReport:
    """The keys that `seed` wrote."""

    database: str
    company: str
    keys: int
    by_type: dict[str, int]
    without_expiry: int


def seed(store: Store, company_id: str, *, now: datetime | None = None) -> SeedReport:
    """Write the data set for this company. Raises InvalidInput, and writes nothing, if the company has data already."""
    company = ids.canonical_company(company_id)
    state = store.load(company)
    if state.total or state.creds is not None:
        data = f"{state.total} keys" + (" and creds" if state.creds is not None else "")
        raise InvalidInput(f"{company} has {data} in {store.database}; seed another --company or database")
    if store.expiry_enforced:
        raise InvalidInput(
            f"{store.database} refuses keys without an expiry, and the data set has some; seed another database"
        )
    rows = demo_rows(store.now() if now is None else now)
    store.restore_rows(company, rows, creds=demo_creds())
    by_type = Counter(row.key_type for row in rows)
    without_expiry = sum(row.expires_at is None for row in rows)
    return SeedReport(store.database, company, len(rows), dict(sorted(by_type.items())), without_expiry)


def demo_rows(now: datetime) -> list[KeyRow]:
    """The 665 keys as of `now` (timezone-aware), sorted by type and id."""
    maker = _RowMaker(now.astimezone(UTC))
    rows = [*maker.pre_keys(), *maker.sessions(), *maker.lid_mappings(), *maker.mis_split_lids(), *maker.others()]
    return sorted(rows, key=lambda row: (row.key_type, row.key_id))


def demo_creds() -> bytes:
    """The account's credentials document."""
    rng = random.Random(f"{SEED} creds")
    next_pre_key = FIRST_PRE_KEY_ID + RECONNECT_PRE_KEYS + len(TODAY_PRE_KEYS)
    return _as_stored(
        {
            "noiseKey": _key_pair(rng),
            "pairingEphemeralKeyPair": _key_pair(rng),
            "signedIdentityKey": _key_pair(rng),
            "signedPreKey": {"keyPair": _key_pair(rng), "signature": _buffer(rng, 64), "keyId": 1},
            "registrationId": 67,
            "advSecretKey": _base64(rng, 32),
            "processedHistoryMessages": [],
            "nextPreKeyId": next_pre_key,
            "firstUnuploadedPreKeyId": next_pre_key,
            "accountSyncCounter": 1,
            "accountSettings": {"unarchiveChats": False},
            "registered": True,
            "me": {"id": "79990000000:12@s.whatsapp.net", "lid": "199999999999999:12@lid", "name": "demo"},
            "platform": "android",
            "myAppStateKeyId": _app_state_key_id(0),
        }
    )


class _RowMaker:
    """Makes the rows as of `now`. Random numbers are drawn in the same order at any time."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._rng = random.Random(SEED)

    def pre_keys(self) -> Iterator[KeyRow]:
        day_so_far = self._now - self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        today = [day_so_far * (1 - share) for share in TODAY_PRE_KEYS]
        for key_id, age in enumerate([RECONNECT_AGE] * RECONNECT_PRE_KEYS + today, FIRST_PRE_KEY_ID):
            yield self._row("pre-key", str(key_id), _key_pair(self._rng), age)

    def sessions(self) -> Iterator[KeyRow]:
        for number, age in enumerate(self._ages(SESSIONS)):
            yield self._row("session", f"{_phone(number)}.0", _session(self._rng, self._now - age), age)

    def lid_mappings(self) -> Iterator[KeyRow]:
        ages = self._ages(LID_MAPPINGS)
        for number in range(LID_MAPPING_PAIRS):
            yield self._row("lid-mapping", _phone(number), _lid(number), ages[2 * number])
            yield self._row("lid-mapping", f"{_lid(number)}_reverse", _phone(number), ages[2 * number + 1])

    def mis_split_lids(self) -> Iterator[KeyRow]:
        """Rows of names like `lid-mapping-123`, split at the first dash: no bot reads them."""
        for number in range(LID_MAPPING_PAIRS, LID_MAPPING_PAIRS + LID_PAIRS):
            yield self._row("lid", f"mapping-{_phone(number)}", _lid(number), OLDEST_AGE)
            yield self._row("lid", f"mapping-{_lid(number)}_reverse", _phone(number), OLDEST_AGE)

    def others(self) -> Iterator[KeyRow]:
        for key_type, created in OTHERS.items():
            for number, age in enumerate(self._ages(created)):
                yield self._row(key_type, *_other(self._rng, key_type, number), age)

    def _ages(self, created: tuple[tuple[Ages, int], ...]) -> list[timedelta]:
        return [
            youngest + (oldest - youngest) * self._rng.random()
            for (youngest, oldest), count in created
            for _ in range(count)
        ]

    def _row(self, key_type: str, key_id: str, value: object, age: timedelta) -> KeyRow:
        created_at = updated_at = self._now - age
        if key_type in REWRITTEN:
            updated_at = self._now - min(age, LONGEST_SILENCE) * self._rng.random()
        # Only lid-mapping had an expiry then: the client set it for new rows of this type.
        expires = expires_at(DIARY, key_type, updated_at) if key_type == "lid-mapping" else None
        return KeyRow(key_type, key_id, _as_stored(value), created_at, updated_at, expires)


def _as_stored(document: object) -> bytes:
    """A JSON document, compact as Baileys writes it."""
    return json.dumps(document, separators=(",", ":")).encode()


def _base64(rng: random.Random, size: int, prefix: bytes = b"") -> str:
    return base64.b64encode(prefix + rng.randbytes(size)).decode()


def _buffer(rng: random.Random, size: int) -> dict[str, str]:
    return {"type": "Buffer", "data": _base64(rng, size)}


def _key_pair(rng: random.Random) -> dict[str, dict[str, str]]:
    return {"private": _buffer(rng, 32), "public": _buffer(rng, 32)}


def _public_key(rng: random.Random) -> str:
    """A Curve25519 public key as libsignal writes it, with its type byte."""
    return _base64(rng, 32, prefix=b"\x05")


def _phone(number: int) -> str:
    return str(79_260_000_000 + number)


def _lid(number: int) -> str:
    return str(200_000_000_000_000 + number)


def _app_state_key_id(number: int) -> str:
    return f"AAAAA{0x63E6 + number:X}"


def _session(rng: random.Random, created_at: datetime) -> dict[str, object]:
    """A contact's session with one open ratchet, about 1,150 bytes."""
    base_key, own_key, their_key = (_public_key(rng) for _ in range(3))
    created_ms = int(created_at.timestamp() * 1000)

    def chain(chain_type: int, **key: str) -> dict[str, object]:
        return {"chainKey": {"counter": 0, **key}, "chainType": chain_type, "messageKeys": {}}

    entry = {
        "registrationId": rng.randrange(100, 256),
        "currentRatchet": {
            "ephemeralKeyPair": {"pubKey": own_key, "privKey": _base64(rng, 32)},
            "lastRemoteEphemeralKey": their_key,
            "previousCounter": 0,
            "rootKey": _base64(rng, 32),
        },
        "indexInfo": {
            "baseKey": base_key,
            "baseKeyType": 2,
            "closed": -1,
            "used": created_ms + 27,
            "created": created_ms,
            "remoteIdentityKey": _public_key(rng),
        },
        "_chains": {
            _public_key(rng): chain(2),
            _public_key(rng): chain(2),
            their_key: chain(2, key=_base64(rng, 32)),
            own_key: chain(1, key=_base64(rng, 32)),
        },
    }
    return {"_sessions": {base_key: entry}, "version": "v1"}


def _other(rng: random.Random, key_type: str, number: int) -> tuple[str, object]:
    """The id and value of the `number`-th key of one of the other types."""
    match key_type:
        case "app-state-sync-key":
            fingerprint = {"rawId": 1, "currentIndex": number, "deviceIndexes": [0, 1]}
            value: object = {"keyData": _base64(rng, 32), "fingerprint": fingerprint, "timestamp": "1758000000"}
            return _app_state_key_id(number), value
        case "app-state-sync-version":
            collection, patches = list(APP_STATE_PATCHES.items())[number]
            index = {_base64(rng, 32): {"valueMac": _buffer(rng, 32)} for _ in range(patches)}
            return collection, {"version": patches, "hash": _buffer(rng, 128), "indexValueMap": index}
        case "device-list":
            return _phone(number), ["0", "12", "37"]
        case "sender-key-memory":
            members = {f"{_phone(member)}@s.whatsapp.net": True for member in range(GROUP_MEMBERS)}
            return f"{120_363_000_000_000_000 + number}@g.us", members
        case "tctoken":
            return f"{_phone(number)}@s.whatsapp.net", {"token": _buffer(rng, 16), "timestamp": "1758000000"}
    raise AssertionError(key_type)
