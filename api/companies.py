"""A bot's operations: each is one request, and one round trip to the database."""

import zlib
from collections.abc import Callable
from typing import TypedDict

import falcon
import msgspec

from api import company_schemas as schemas
from api.access.authentication import require_company
from api.bodies import CountedId, CountedType, Counting, decoded_body, limit_names, read_body, whole_number
from api.json_values import ToJson, by_id, encoded, is_json, stored_keys, stored_value, to_json
from api.problems import Problem, problem_of
from keystore.errors import InvalidInput, KeystoreError
from keystore.ids import MAX_NAME_CHARS, canonical_company, checked_name
from keystore.records import AuthState, Write
from keystore.store import Store
from monitor.alerts.lost_writes import report_lost_writes
from monitor.alerts.memory import BotMemory, forget_bot, report_memory
from monitor.running.bounded_calls import BoundedCalls

OpenStore = Callable[[], Store]

EPOCH_HEADER = "Keystore-Epoch"
SEQ_HEADER = "Keystore-Seq"
ACKNOWLEDGED_HEADER = "Keystore-Acknowledged"

GZIP_LEVEL = 1
"""Compression level. For 721 real keys level 1 saves 3/5 of the bytes; level 6 takes three times as long and saves a
twentieth more."""

GZIP_MIN_BYTES = 1_400
"""Size from which an answer is compressed. A smaller one fits into one packet anyway."""

_GZIP_WINDOW = 31
NULL = msgspec.Raw(b"null")

CONCURRENT_HEARTBEATS = 2

_write_state = Counting(msgspec.json.Decoder(schemas.WriteStateRequest), schemas.CountedState)
_keys: Counting[dict[str, dict[str, msgspec.Raw]]] = Counting(
    msgspec.json.Decoder(schemas.KeysByType), dict[CountedType, dict[CountedId, msgspec.Raw]]
)
_get_keys = Counting(msgspec.json.Decoder(schemas.GetKeysRequest), schemas.CountedGetKeys)
_ids: Counting[dict[str, list[str]]] = Counting(
    msgspec.json.Decoder(schemas.IdsByType), dict[CountedType, list[CountedId]]
)
_writes = Counting(msgspec.json.Decoder(schemas.WritesRequest), schemas.CountedWrites)
_lease = msgspec.json.Decoder(schemas.LeaseRequest)
_heartbeat = msgspec.json.Decoder(schemas.HeartbeatRequest)
_encoder = msgspec.json.Encoder()


def company_resources(store: OpenStore) -> list[tuple[str, object]]:
    """Return each resource with the end of its path, after `/v1/companies/{company}`."""
    return [
        ("", CompanyResource(store)),
        ("/state", StateResource(store)),
        ("/creds", CredsResource(store)),
        ("/keys", KeysResource(store)),
        ("/keys/get", GetKeysResource(store)),
        ("/keys/used", UsedKeysResource(store)),
        ("/lease", LeaseResource(store)),
        ("/heartbeat", HeartbeatResource(store)),
    ]


class _StoreResource:
    """A resource that reads or writes the store."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store


class CompanyResource(_StoreResource):
    """All data of a company."""

    def on_delete(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Delete creds and all keys."""
        self._store().clear(company, **_numbers(req))
        _no_content(resp)


class StateResource(_StoreResource):
    """Creds and keys together."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Answer with all that a bot needs to reconnect."""
        state = self._store().load(company)
        _answer_packed(req, resp, encoded(lambda to_json: _state_response(state, to_json)))

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Write creds and keys, all or nothing."""
        state = _write_state.decoded(req)
        limit_names(len(state.keys), sum(map(len, state.keys.values())))
        self._store().set(company, stored_keys(state.keys), stored_value(state.creds, "creds"), **_numbers(req))
        _no_content(resp)


class CredsResource(_StoreResource):
    """The credentials document."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Answer with the document. Raises Problem (404)."""
        creds = self._store().get_creds(company)
        if creds is None:
            raise Problem("not-found", f"company {company} has no creds: it isn't paired yet")
        resp.data = bytes(to_json(creds))

    def on_put(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Replace the document."""
        body = read_body(req)
        creds = stored_value(msgspec.Raw(body.strip()), "creds") if is_json(body) else None
        if creds is None:
            raise Problem("invalid-input", "creds: one JSON document is needed, and not null")
        self._store().set(company, {}, creds, **_numbers(req))
        _no_content(resp)


class KeysResource(_StoreResource):
    """Keys to write, and all keys."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Write and delete keys, all or nothing."""
        keys = _keys.decoded(req)
        limit_names(len(keys), sum(map(len, keys.values())))
        self._store().set(company, stored_keys(keys), **_numbers(req))
        _no_content(resp)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Delete all keys. The creds stay."""
        self._store().clear(company, keys_only=True, **_numbers(req))
        _no_content(resp)


class GetKeysResource(_StoreResource):
    """Keys to read."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Answer with those of the keys that are stored."""
        wanted = _get_keys.decoded(req)
        limit_names(1, len(wanted.ids))
        keys = self._store().get(company, wanted.type, wanted.ids)
        resp.data = encoded(lambda to_json: by_id(keys, to_json))


class UsedKeysResource(_StoreResource):
    """Keys that a bot read from its own memory."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Renew those of the keys whose renewal is due, and answer with those that aren't stored."""
        used = _ids.decoded(req)
        limit_names(len(used), sum(map(len, used.values())))
        for key_type in used:
            checked_name("key_type", key_type)
        resp.data = _encoder.encode(schemas.UsedKeysResponse(self._store().touch(company, used)))


class LeaseResource(_StoreResource):
    """The right to write for the company."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Take or renew the lease."""
        body = decoded_body(req, _lease)
        if not body.holder.isprintable():
            raise InvalidInput("holder: it has a character that isn't printable")
        behind = body.acknowledged is not None and self._is_behind(company, body.acknowledged)
        store = self._store()
        lease = store.lease_company(company, body.holder, body.ttl_s, epoch=body.epoch, force=body.force)
        answer = schemas.LeaseResponse(lease.epoch, lease.expires_at, lease.seq, behind)
        if not body.state:
            resp.data = _encoder.encode(answer)
            return
        state = store.load(company)
        _answer_packed(
            req,
            resp,
            encoded(lambda to_json: msgspec.structs.replace(answer, state=_state_response(state, to_json))),
        )

    def _is_behind(self, company: str, acknowledged: schemas.AcknowledgedWrite) -> bool:
        """Return True, and report it, when the database lacks a write that was acknowledged to the bot."""
        stored = self._store().last_write(company)
        shown = (acknowledged.epoch, acknowledged.seq)
        if stored >= shown:
            return False
        report_lost_writes(self._store(), company, stored, shown)
        return True

    def on_delete(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """End the lease, and expect no more heartbeats; a lease that has passed to another holder is left alone."""
        holder = req.get_param("holder") or ""
        if not 1 <= len(holder) <= MAX_NAME_CHARS or not holder.isprintable():
            raise Problem("invalid-input", f"?holder=: 1 to {MAX_NAME_CHARS} printable characters are needed")
        store = self._store()
        if store.release_company(company, holder, whole_number(req.get_param("epoch"), "?epoch=")):
            forget_bot(store, company)
        _no_content(resp)


class HeartbeatResource(_StoreResource):
    """A bot's report on itself."""

    calls = BoundedCalls(CONCURRENT_HEARTBEATS, "heartbeat")

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Save the bot's memory use, for the memory alert."""
        sample = decoded_body(req, _heartbeat)
        total_bytes = sample.heap_used_bytes if sample.heap_total_bytes is None else sample.heap_total_bytes
        memory = BotMemory(sample.heap_used_bytes, total_bytes, sample.heap_limit_bytes, sample.rss_bytes)
        self.calls.call(lambda: report_memory(self._store(), company, memory))
        _no_content(resp)


class WritesResource(_StoreResource):
    """Writes of several companies."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Write for each company all or nothing, and answer with each outcome. Raises Problem (403)."""
        body = _writes.decoded(req)
        limit_names(0, sum(len(by_id) for write in body.writes for by_id in write.keys.values()))
        caller = req.context.caller
        outcomes: dict[int, KeystoreError | Problem | None] = {}
        accepted: dict[int, Write] = {}
        for place, write in enumerate(body.writes):
            try:
                require_company(caller, canonical_company(write.company))
                limit_names(len(write.keys), 0)
                creds = stored_value(write.creds, "creds")
                keys = stored_keys(write.keys)
                accepted[place] = Write(write.company, keys, creds, write.epoch, write.seq, write.acknowledged)
            except (InvalidInput, Problem) as error:
                outcomes[place] = error
        outcomes |= zip(accepted, self._store().set_all(accepted.values()), strict=True)
        is_admin, request_id = caller.is_admin, req.context.request_id
        problems = [
            None if outcome is None else problem_of(outcome, in_detail=is_admin).document(request_id)
            for outcome in map(outcomes.get, range(len(body.writes)))
        ]
        resp.data = _encoder.encode(schemas.WritesResponse(problems))


def _state_response(state: AuthState, to_json: ToJson) -> schemas.StateResponse:
    creds = [] if state.creds is None else [state.creds]
    return schemas.StateResponse(
        next(iter(to_json(creds)), NULL),
        {key_type: by_id(keys, to_json) for key_type, keys in state.keys.items()},
        state.epoch,
        state.seq,
    )


def _answer_packed(req: falcon.Request, resp: falcon.Response, body: bytes) -> None:
    """Answer with this body, compressed if it is large and the caller asked for it."""
    resp.set_header("Vary", "Accept-Encoding")
    if len(body) >= GZIP_MIN_BYTES and _accepts_gzip(req):
        packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        body = packer.compress(body) + packer.flush()
        resp.set_header("Content-Encoding", "gzip")
    resp.data = body


class Numbers(TypedDict):
    """The lease's epoch and the write's number, as the store takes them."""

    epoch: int | None
    seq: int | None
    acknowledged: int | None


def _numbers(req: falcon.Request) -> Numbers:
    """Return the numbers that a write carries. Raises Problem (400)."""
    return Numbers(
        epoch=_number(req, EPOCH_HEADER),
        seq=_number(req, SEQ_HEADER),
        acknowledged=_number(req, ACKNOWLEDGED_HEADER),
    )


def _number(req: falcon.Request, header: str) -> int | None:
    value = req.get_header(header)
    return None if value is None else whole_number(value, header)


def _no_content(resp: falcon.Response) -> None:
    resp.status = falcon.HTTP_204


def _accepts_gzip(req: falcon.Request) -> bool:
    for coding in (req.get_header("Accept-Encoding") or "").lower().split(","):
        name, _, quality = coding.partition(";")
        if name.strip() in ("gzip", "*") and quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return True
    return False
