"""The JSON bodies of a bot's requests and answers, as types.

A body is decoded and checked as its type, and `api/openapi.py` makes its schema from the same type. The limits in an
`extra_json_schema` are only described here: `keystore.ids` checks names, and `api.bodies` counts types and ids.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.bodies import MAX_IDS, MAX_NUMBER, MAX_TYPES, CountedId, CountedType
from api.problems import ProblemDocument
from keystore.ids import MAX_NAME_CHARS

NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS}
_NAMED = Meta(extra_json_schema={"propertyNames": NAME})
_TYPED = Meta(extra_json_schema={"propertyNames": NAME, "maxProperties": MAX_TYPES})

MAX_WRITES = 200
"""Companies that one request writes."""

Count = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Epoch = Annotated[Count, Meta(description="Rises with each holder of the lease.")]
Seq = Annotated[Count, Meta(description="The number of the last write under this epoch; 0 before the first.")]
Name = Annotated[str, Meta(extra_json_schema=NAME)]
Ids = Annotated[list[Name], Meta(extra_json_schema={"maxItems": MAX_IDS})]
Value = Annotated[
    msgspec.Raw,
    Meta(
        description="Any JSON, stored as the bytes that were sent. "
        '`{"$base64": "…"}` stands for bytes that aren\'t JSON. In a write, null deletes the key.'
    ),
]

ValuesById = Annotated[dict[str, Value], _NAMED]
KeysByType = Annotated[dict[str, ValuesById], _TYPED, Meta(description="`{type: {id: value}}`")]
IdsByType = Annotated[dict[str, Ids], _TYPED, Meta(description="`{type: [id, …]}`")]


class WriteStateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Creds and keys that are written as one."""

    creds: Annotated[msgspec.Raw, Meta(description="The credentials document; absent or null leaves it as it is.")] = (
        msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    )
    keys: KeysByType = {}
    epoch: Annotated[Count, Meta(description="As `GET` answers it, and not used: the header carries the epoch.")] = 0
    seq: Annotated[Count, Meta(description="As `GET` answers it, and not used: the header carries the number.")] = 0


class CountedState(msgspec.Struct):
    """`WriteStateRequest` with its names only counted."""

    keys: dict[CountedType, dict[CountedId, msgspec.Raw]] = {}


class CompanyWrite(msgspec.Struct, forbid_unknown_fields=True):
    """The write of one company."""

    company: Annotated[str, Meta(description="The company's id.")]
    epoch: Annotated[Count | None, Meta(description="The lease's epoch; needed while a lease is in force.")] = None
    seq: Annotated[Count | None, Meta(description="The write's number under this epoch, from 1 on.")] = None
    creds: Annotated[msgspec.Raw, Meta(description="The credentials document; absent or null leaves it as it is.")] = (
        msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    )
    keys: KeysByType = {}


class WritesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Writes of several companies, one of each."""

    writes: Annotated[list[CompanyWrite], Meta(min_length=1, max_length=MAX_WRITES)]


class CountedKeys(msgspec.Struct):
    """A `CompanyWrite` with its names only counted; its types count as ids, because each company has some."""

    keys: dict[CountedId, dict[CountedId, msgspec.Raw]] = {}


class CountedWrites(msgspec.Struct):
    """`WritesRequest` with its names only counted."""

    writes: list[CountedKeys] = []


class WritesResponse(msgspec.Struct):
    """The outcome of each write."""

    outcomes: Annotated[
        list[ProblemDocument | None],
        Meta(description="In order: null for a write that is durable, or the problem that refused it."),
    ]


class StateResponse(msgspec.Struct):
    """All that a bot needs to reconnect."""

    creds: Annotated[msgspec.Raw, Meta(description="The credentials document; null if there is none.")]
    keys: KeysByType
    epoch: Epoch
    seq: Seq


class GetKeysRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Keys of one type that are to be read."""

    type: Name
    ids: Ids


class CountedGetKeys(msgspec.Struct):
    """`GetKeysRequest` with its names only counted."""

    ids: list[CountedId]


class AcknowledgedWrite(msgspec.Struct, forbid_unknown_fields=True):
    """The latest write that was acknowledged to a bot."""

    epoch: Epoch
    seq: Seq


class LeaseRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A lease to take, or with its epoch to renew."""

    holder: Annotated[
        str, Meta(min_length=1, max_length=MAX_NAME_CHARS, description="The same name gets its own lease back at once.")
    ]
    ttl_s: Annotated[float, Meta(ge=5, le=3600, description="Duration of the lease in seconds.")]
    epoch: Annotated[Epoch | None, Meta(description="Renews the lease of this epoch.")] = None
    force: Annotated[bool, Meta(description="Takes the lease from a holder that still has it.")] = False
    state: Annotated[bool, Meta(description="Asks for the state too, read after the lease was taken.")] = False
    acknowledged: Annotated[
        AcknowledgedWrite | None,
        Meta(description="The latest write acknowledged to this bot; the answer says whether the database has it."),
    ] = None


class UsedKeysResponse(msgspec.Struct):
    """The used keys that the store doesn't have."""

    missing: Annotated[
        IdsByType, Meta(description="The keys that aren't stored. A bot that still has one writes it again.")
    ]


class LeaseResponse(msgspec.Struct):
    """The lease as its holder has it now."""

    epoch: Epoch
    expires_at: datetime
    seq: Seq
    behind: Annotated[
        bool,
        Meta(
            description="True when the database lacks a write that `acknowledged` names: it went back. The bot's state "
            "is newer; it writes all of it."
        ),
    ] = False
    state: Annotated[StateResponse | UnsetType, Meta(description="All that is stored, if it was asked for.")] = UNSET


class HeartbeatRequest(msgspec.Struct):
    """The memory that a bot uses; a later client may send more fields."""

    rss_bytes: Count
    heap_used_bytes: Count
    heap_limit_bytes: Annotated[int, Meta(gt=0, le=MAX_NUMBER)]
    heap_total_bytes: Count | None = None
