"""The shape that Baileys gives each type's value: plain data, read off Baileys 6.17.16 and 7.0.0-rc14.

A record names the fields that Baileys reads. Other fields pass, since each version adds some. The store itself holds
no value against its shape: a bot may store anything.

- A `session` is what `SessionRecord.serialize` of libsignal-node returns; its key material is base64 in texts. Baileys
  declares it as a `Uint8Array` as well, for a libsignal that serializes to bytes.
- A `sender-key` is the Buffer of a JSON list of states in Baileys 7, and the list itself in Baileys 6.
- Baileys reads an `app-state-sync-key` with protobuf's `fromObject`, which takes bytes as base64 texts or as Buffers.
  The `account` in the creds is such a message too.
- A `tctoken` whose token has ended keeps an empty one. Its id `__index` holds a JSON list of ids in its token.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Shape: TypeAlias = "Buffer | Text | Number | Flag | Anything | ListOf | MapOf | Record | FirstOf"


@dataclass(frozen=True)
class Buffer:
    """Bytes; of one of these sizes, if there are any. The first byte is `begins`, if it is set; never `begins_not`."""

    sizes: tuple[int, ...] = ()
    least: int = 0
    begins: bytes = b""
    begins_not: bytes = b""

    def __str__(self) -> str:
        sizes = " or ".join(map(str, self.sizes))
        content = " of a JSON list" if self.begins else ""
        return f"a Buffer{content}{f' of {sizes} bytes' if sizes else ''}"


@dataclass(frozen=True)
class Text:
    """A string that this pattern fits as a whole."""

    pattern: re.Pattern[str] = re.compile(r".*", re.DOTALL)
    name: str = "a text"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Number:
    """A number."""

    def __str__(self) -> str:
        return "a number"


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Anything:
    """A value that Baileys reads in several ways, or hardly."""

    def __str__(self) -> str:
        return "anything"


@dataclass(frozen=True)
class ListOf:
    """A list of values with one shape."""

    item: Shape

    def __str__(self) -> str:
        return "a list"


@dataclass(frozen=True)
class MapOf:
    """An object with any names, whose values have one shape."""

    value: Shape
    names: re.Pattern[str] = re.compile(r".*", re.DOTALL)
    name: str = "an object"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Record:
    """An object that has the `required` fields, and may have the `optional` ones and others."""

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"an object with {', '.join(self.required)}"


@dataclass(frozen=True)
class FirstOf:
    """A value with one of these shapes."""

    shapes: tuple[Shape, ...]

    def __str__(self) -> str:
        return ", or ".join(map(str, self.shapes))


BASE64 = Text(re.compile(r"[A-Za-z0-9+/]*={0,2}"), "base64")
BYTES = FirstOf((BASE64, Buffer()))
"""Bytes where protobuf's `fromObject` reads them."""

KEY_PAIR = Record({"private": Buffer((32,)), "public": Buffer((32, 33))})
"""A Curve25519 key pair. A public key may have libsignal's leading byte 5."""

SESSION_ENTRY = Record(
    {
        "currentRatchet": Record(
            {
                "ephemeralKeyPair": Record({"pubKey": BASE64, "privKey": BASE64}),
                "lastRemoteEphemeralKey": BASE64,
                "previousCounter": Number(),
                "rootKey": BASE64,
            }
        ),
        "indexInfo": Record(
            {
                "baseKey": BASE64,
                "baseKeyType": Number(),
                "closed": Number(),
                "used": Number(),
                "created": Number(),
                "remoteIdentityKey": BASE64,
            }
        ),
        "_chains": MapOf(
            Record(
                {
                    "chainKey": Record({"counter": Number()}, {"key": BASE64}),
                    "chainType": Number(),
                    "messageKeys": MapOf(BASE64),
                }
            )
        ),
    },
    {"registrationId": Number()},
)

SENDER_KEY_STATE = Record(
    {
        "senderKeyId": Number(),
        "senderChainKey": Record({"iteration": Number(), "seed": BYTES}),
        "senderSigningKey": Record({"public": BYTES}, {"private": BYTES}),
        "senderMessageKeys": ListOf(Anything()),
    }
)

CREDS = Record(
    {
        "noiseKey": KEY_PAIR,
        "signedIdentityKey": KEY_PAIR,
        "signedPreKey": Record({"keyPair": KEY_PAIR, "signature": Buffer((64,)), "keyId": Number()}),
        "registrationId": Number(),
        "advSecretKey": BASE64,
        "nextPreKeyId": Number(),
        "firstUnuploadedPreKeyId": Number(),
    },
    {
        "pairingEphemeralKeyPair": KEY_PAIR,
        "me": Record({"id": Text()}),
        "account": Record({}, dict.fromkeys(("details", "accountSignatureKey", "accountSignature"), BYTES)),
        "signalIdentities": ListOf(Record({"identifier": Record({"name": Text()}), "identifierKey": Buffer((32, 33))})),
        "accountSyncCounter": Number(),
        "routingInfo": Buffer(),
        "identityId": Buffer(),
        "backupToken": Buffer(),
    },
)
"""The `creds`; those of Baileys 5 lack some of the optional fields, and only mobile registrations have the last two."""

WORD = Text(re.compile(r"[0-9A-Za-z_.:@-]+"), "a text of letters and digits")

SHAPES: Mapping[str, Shape] = {
    "app-state-sync-key": Record(
        {"keyData": BYTES},
        {"fingerprint": Record({"rawId": Number(), "currentIndex": Number()}), "timestamp": Anything()},
    ),
    "app-state-sync-version": Record(
        {
            "version": Number(),
            "hash": Buffer((128,)),
            "indexValueMap": MapOf(Record({"valueMac": Buffer((32,))})),
        }
    ),
    "device-list": ListOf(WORD),
    "identity-key": Buffer((32, 33)),
    "lid-mapping": WORD,
    "pre-key": KEY_PAIR,
    "sender-key": FirstOf((Buffer(begins=b"["), ListOf(SENDER_KEY_STATE))),
    "sender-key-memory": MapOf(Flag(), re.compile(r"[^@]+@[a-z.]+"), "an object of ids, each with true or false"),
    "session": FirstOf((Record({"_sessions": MapOf(SESSION_ENTRY)}), Buffer(least=32, begins_not=b"{"))),
    "tctoken": Record(
        {"token": Buffer()},
        {"timestamp": FirstOf((Text(), Number())), "senderTimestamp": FirstOf((Number(), Text()))},
    ),
}
"""The shape of each key type's value."""
