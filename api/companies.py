"""A bot's operations: one request each, and one round trip to the database each."""

import zlib
from collections.abc import Callable
from typing import Annotated

import falcon
import msgspec

from api.bodies import MAX_NUMBER, decoded, limit_ids, number_param, read_body, whole_number
from api.json_values import by_id, encoded, incoming, incoming_keys, is_json, outgoing
from api.problems import Problem, rfc3339
from keystore.errors import InvalidInput
from keystore.ids import checked_type
from keystore.store import Store
from monitor.alerts.memory import BotMemory, report_memory
from monitor.running.bounded_calls import BoundedCalls

OpenStore = Callable[[], Store]

EPOCH_HEADER = "Keystore-Epoch"

GZIP_LEVEL = 1
"""On the 721 real keys level 1 saves 3/5 of the bytes; 6 takes three times as long for a twentieth more."""

GZIP_FROM_BYTES = 1_400
"""What fits a packet isn't worth it."""

_GZIP_WINDOW = 31

HEARTBEAT_WITHIN_S = 5.0
HEARTBEATS_AT_ONCE = 2

MAX_HOLDER_CHARS = 255
_Holder = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_HOLDER_CHARS)]
_Epoch = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """Which keys of one type."""

    type: str
    ids: list[str]


class _StateWrite(msgspec.Struct, forbid_unknown_fields=True):
    """Creds and keys to be written as one; creds absent or null: left as they are."""

    creds: msgspec.Raw = msgspec.Raw(b"null")
    keys: dict[str, dict[str, msgspec.Raw]] = {}


class _LeaseAsked(msgspec.Struct, forbid_unknown_fields=True):
    """A lease to take, or with its epoch to renew."""

    holder: _Holder
    ttl_s: Annotated[float, msgspec.Meta(ge=5, le=3600)]
    epoch: _Epoch | None = None
    force: bool = False


class _Heartbeat(msgspec.Struct):
    """A bot's memory; a later client may say more."""

    rss_bytes: _Bytes
    heap_used_bytes: _Bytes
    heap_limit_bytes: Annotated[int, msgspec.Meta(gt=0, le=MAX_NUMBER)]
    heap_total_bytes: _Bytes | None = None


_wanted = msgspec.json.Decoder(_Wanted)
_keys = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])
_state = msgspec.json.Decoder(_StateWrite)
_used = msgspec.json.Decoder(dict[str, list[str]])
_lease = msgspec.json.Decoder(_LeaseAsked)
_heartbeat = msgspec.json.Decoder(_Heartbeat)
_encoder = msgspec.json.Encoder()


def company_resources(store: OpenStore) -> list[tuple[str, object]]:
    """Each resource with the end of its path, after `/v1/companies/{company}`."""
    return [
        ("", Company(store)),
        ("/state", State(store)),
        ("/creds", Creds(store)),
        ("/keys", Keys(store)),
        ("/keys/get", WantedKeys(store)),
        ("/keys/used", UsedKeys(store)),
        ("/lease", CompanyLease(store)),
        ("/heartbeat", Heartbeat(store)),
    ]


class _OnStore:
    """A resource that works with the store."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store


class Company(_OnStore):
    """The company as a whole."""

    def on_delete(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Deletes creds and all keys."""
        self._store().clear(company, epoch=_epoch(req))
        _done(resp)


class State(_OnStore):
    """Creds and keys as one."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Everything for a reconnect."""
        state = self._store().load(company)
        creds = [] if state.creds is None else [state.creds]
        body = encoded(
            lambda texts: {
                "creds": next(iter(texts(creds)), None),
                "keys": {key_type: by_id(keys, texts) for key_type, keys in state.keys.items()},
            }
        )
        resp.set_header("Vary", "Accept-Encoding")
        if len(body) >= GZIP_FROM_BYTES and _takes_gzip(req):
            packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
            body = packer.compress(body) + packer.flush()
            resp.set_header("Content-Encoding", "gzip")
        resp.data = body

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Writes both, all of it or nothing."""
        given = decoded(_state, read_body(req))
        limit_ids(sum(map(len, given.keys.values())))
        self._store().set(company, incoming_keys(given.keys), incoming(given.creds, "creds"), epoch=_epoch(req))
        _done(resp)


class Creds(_OnStore):
    """The credentials document."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """The document as it is."""
        creds = self._store().get_creds(company)
        if creds is None:
            raise Problem("not-found", f"company {company} has no creds: it isn't paired yet")
        resp.data = bytes(outgoing(creds))

    def on_put(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Replaces the document."""
        body = read_body(req)
        creds = incoming(msgspec.Raw(body.strip()), "creds") if is_json(body) else None
        if creds is None:
            raise Problem("invalid-input", "creds: one JSON document is needed, and not null")
        self._store().set_creds(company, creds, epoch=_epoch(req))
        _done(resp)


class Keys(_OnStore):
    """Keys to be written."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Writes and deletes, all of it or nothing."""
        given = decoded(_keys, read_body(req))
        limit_ids(sum(map(len, given.values())))
        self._store().set(company, incoming_keys(given), epoch=_epoch(req))
        _done(resp)


class WantedKeys(_OnStore):
    """Keys to be read."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Those that are there."""
        wanted = decoded(_wanted, read_body(req))
        limit_ids(len(wanted.ids))
        found = self._store().get(company, wanted.type, wanted.ids)
        resp.data = encoded(lambda texts: by_id(found, texts))


class UsedKeys(_OnStore):
    """Keys that a bot read from its own memory."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Renews them where it is due."""
        used = decoded(_used, read_body(req))
        for key_type in used:
            checked_type(key_type)
        limit_ids(sum(map(len, used.values())))
        self._store().touch(company, used)
        _done(resp)


class CompanyLease(_OnStore):
    """The right to write for the company."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Takes or renews it."""
        asked = decoded(_lease, read_body(req))
        if not asked.holder.isprintable():
            raise InvalidInput("holder: it has a character that isn't printable")
        lease = self._store().lease_company(company, asked.holder, asked.ttl_s, epoch=asked.epoch, force=asked.force)
        resp.data = _encoder.encode({"epoch": lease.epoch, "expires_at": rfc3339(lease.expires_at)})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Ends it; one that has passed on is left alone."""
        holder = req.get_param("holder") or ""
        if not 1 <= len(holder) <= MAX_HOLDER_CHARS or not holder.isprintable():
            raise Problem("invalid-input", f"?holder=: 1 to {MAX_HOLDER_CHARS} printable characters are needed")
        self._store().release_company(company, holder, number_param(req, "epoch"))
        _done(resp)


class Heartbeat(_OnStore):
    """What a bot says of itself."""

    def __init__(self, store: OpenStore) -> None:
        super().__init__(store)
        self._slots = BoundedCalls(HEARTBEATS_AT_ONCE, "heartbeat")

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Takes its memory, for the memory rule of the watch."""
        told = decoded(_heartbeat, read_body(req))
        total_bytes = told.heap_used_bytes if told.heap_total_bytes is None else told.heap_total_bytes
        memory = BotMemory(told.heap_used_bytes, total_bytes, told.heap_limit_bytes, told.rss_bytes)
        self._slots.call(lambda: report_memory(self._store(), company, memory), HEARTBEAT_WITHIN_S)
        _done(resp)


def _epoch(req: falcon.Request) -> int | None:
    """The lease's epoch that a write carries. Raises Problem (400)."""
    given = req.get_header(EPOCH_HEADER)
    return None if given is None else whole_number(given, EPOCH_HEADER)


def _done(resp: falcon.Response) -> None:
    resp.status = falcon.HTTP_204


def _takes_gzip(req: falcon.Request) -> bool:
    """Whether the client says that it takes gzip."""
    for coding in (req.get_header("Accept-Encoding") or "").lower().split(","):
        name, _, quality = coding.partition(";")
        if name.strip() in ("gzip", "*") and quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return True
    return False
