"""The OpenAPI 3.1 document of the API, and the resource that serves it.

The schemas of bodies are made from the types that the bodies are decoded as. `tests/api/test_openapi.py` compares the
document with the routes, and with the answers that they give.
"""

from typing import Any

import falcon
import msgspec

from api import company_schemas as schemas
from api.problems import MEDIA_TYPE, TITLES, TYPE_PREFIX
from monitor.reports.check import CheckReport

Document = dict[str, Any]

JSON = "application/json"
COMPANY_PATH = "/v1/companies/{company}"

TYPES = {
    "KeysByType": schemas.KeysByType,
    "ValuesById": schemas.ValuesById,
    "IdsByType": schemas.IdsByType,
    "WriteStateRequest": schemas.WriteStateRequest,
    "GetKeysRequest": schemas.GetKeysRequest,
    "LeaseRequest": schemas.LeaseRequest,
    "LeaseResponse": schemas.LeaseResponse,
    "HeartbeatRequest": schemas.HeartbeatRequest,
    "CheckReport": CheckReport,
    "Count": schemas.Count,
}
"""Name of a schema, and the type that it is made from."""


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Document, optional: Document | None = None) -> Document:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _schemas_of_types() -> Document:
    """Return the schemas of TYPES, and of the classes within them, by name."""
    inline, classes = msgspec.json.schema_components(TYPES.values(), ref_template=_ref("{name}")["$ref"])
    for schema in classes.values():
        for name, field in schema["properties"].items():
            if name.endswith("_at"):
                field.get("anyOf", [field])[0]["format"] = "date-time"
    return {**dict(zip(TYPES, inline, strict=True)), **classes}


SCHEMAS: Document = {
    **_schemas_of_types(),
    "Object": {"type": "object"},
    "Creds": {"not": {"type": "null"}, "description": "The credentials document: any JSON but null."},
    "State": _object(
        {"creds": {"description": "The credentials document; null if there is none."}, "keys": _ref("KeysByType")}
    ),
    "Problem": {
        "description": "RFC 9457.",
        **_object(
            {
                "type": {"type": "string", "enum": [TYPE_PREFIX + slug for slug in TITLES]},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string", "description": "What to do."},
                "request_id": {"type": "string"},
            },
            {
                "holder": {"type": "string", "description": "With `lease-held`: the holder of the lease."},
                "expires_at": {"type": "string", "format": "date-time", "description": "With `lease-held`: its end."},
            },
        ),
    },
}


def _problem(status: int) -> Document:
    slugs = [slug for slug, (slug_status, _) in TITLES.items() if slug_status == status]
    answer: Document = {
        "description": "; ".join(f"{TITLES[slug][1]} (`{slug}`)" for slug in slugs),
        "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
    }
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return answer


def _content(media_type: str, schema: Document) -> Document:
    return {"content": {media_type: {"schema": schema}}}


def _text(media_type: str, description: str) -> Document:
    return {"description": description, **_content(f"{media_type}; charset=utf-8", {"type": "string"})}


def _json(name: str) -> Document:
    return {"200": {"description": "The answer.", **_content(JSON, _ref(name))}}


def _body(schema: Document, media_type: str = JSON) -> Document:
    return {"requestBody": {"required": True, **_content(media_type, schema)}}


def _parameter(name: str, place: str, schema: Document, **more: Any) -> Document:
    return {"name": name, "in": place, "schema": schema, **more}


def _operation(summary: str, answers: Document, *problems: int, **more: Any) -> Document:
    """Return one operation: its answers by status, and its problems; a status may have both."""
    responses: Document = {str(code): _problem(code) for code in problems}
    for status, answer in answers.items():
        problem = responses.get(status)
        content = {} if problem is None else {"content": {**problem["content"], **answer["content"]}}
        responses[status] = {**answer, **(problem or {}), **content}
    return {"summary": summary, "responses": responses, **more}


_ANY = (401, 403, 429, 500, 503)
_COMPANY = (400, *_ANY)
_BODY = (*_COMPANY, 413, 415)
_NO_TOKEN: Document = {"security": []}
_DONE: Document = {"204": {"description": "Done."}}

_EPOCH = _parameter(
    "Keystore-Epoch", "header", _ref("Count"), description="The lease's epoch; needed while a lease is in force."
)
_WRITES: Document = {"parameters": [_EPOCH]}
_RELEASES = [
    _parameter("holder", "query", schemas.NAME, required=True),
    _parameter("epoch", "query", _ref("Count"), required=True),
]
_LISTING = [
    _parameter("search", "query", {"type": "string"}, description="A part of the ids of companies."),
    _parameter("page", "query", {"type": "string"}, description="The page of the list of companies."),
]

_REDIRECT = _text("text/plain", "Go on there.")
_UNAVAILABLE = _text("text/html", "The database does not answer: a browser gets a page, a program a problem.")

PATHS: dict[str, dict[str, Document]] = {
    COMPANY_PATH: {"delete": _operation("Delete creds and all keys", _DONE, *_COMPANY, 409, **_WRITES)},
    f"{COMPANY_PATH}/state": {
        "get": _operation("All that a bot needs to reconnect; gzip when asked for", _json("State"), *_COMPANY),
        "post": _operation(
            "Write creds and keys as one", _DONE, *_BODY, 409, **_body(_ref("WriteStateRequest")), **_WRITES
        ),
    },
    f"{COMPANY_PATH}/creds": {
        "get": _operation("The credentials document", _json("Creds"), *_COMPANY, 404),
        "put": _operation("Replace the credentials document", _DONE, *_BODY, 409, **_body(_ref("Creds")), **_WRITES),
    },
    f"{COMPANY_PATH}/keys": {
        "post": _operation(
            "Write and delete keys, all or nothing", _DONE, *_BODY, 409, **_body(_ref("KeysByType")), **_WRITES
        )
    },
    f"{COMPANY_PATH}/keys/get": {
        "post": _operation(
            "Read keys of one type; a read is a use, and an id that isn't stored is left out",
            _json("ValuesById"),
            *_BODY,
            **_body(_ref("GetKeysRequest")),
        )
    },
    f"{COMPANY_PATH}/keys/used": {"post": _operation("Mark keys as used", _DONE, *_BODY, **_body(_ref("IdsByType")))},
    f"{COMPANY_PATH}/lease": {
        "post": _operation(
            "Take or renew the right to write", _json("LeaseResponse"), *_BODY, 409, **_body(_ref("LeaseRequest"))
        ),
        "delete": _operation("End the lease; a stale one is left alone", _DONE, *_COMPANY, parameters=_RELEASES),
    },
    f"{COMPANY_PATH}/heartbeat": {
        "post": _operation("The bot's use of memory, for the alerts", _DONE, *_BODY, **_body(_ref("HeartbeatRequest")))
    },
    "/healthz": {"get": _operation("The process is alive", _json("Object"), 500, **_NO_TOKEN)},
    "/readyz": {"get": _operation("A bot can use the service", _json("Object"), 500, 503, **_NO_TOKEN)},
    "/v1/health": {"get": _operation("The `check` report", _json("CheckReport"), *_ANY)},
    "/openapi.json": {"get": _operation("This document", _json("Object"), *_ANY)},
    "/metrics": {
        "get": _operation("For Prometheus", {"200": _text("text/plain; version=0.0.4", "Its text format.")}, *_ANY)
    },
    "/": {
        "get": _operation(
            "The status page, for an admin's session or token; a browser without either is sent to /sign-in",
            {"200": _text("text/html", "The page."), "303": _REDIRECT, "503": _UNAVAILABLE},
            *_ANY,
            parameters=_LISTING,
        )
    },
    "/sign-in": {
        "get": _operation("The form for an admin token", {"200": _text("text/html", "The form.")}, *_ANY, **_NO_TOKEN),
        "post": _operation(
            "Begin a session: a cookie stands for the token, for 12 hours",
            {"303": _REDIRECT, "403": _text("text/html", "Not an admin token."), "503": _UNAVAILABLE},
            *_BODY,
            **_body(_object({"token": {"type": "string"}}), "application/x-www-form-urlencoded"),
            **_NO_TOKEN,
        ),
    },
    "/sign-out": {"post": _operation("End the session", {"303": _REDIRECT}, *_ANY)},
}


def openapi(version: str) -> Document:
    """Return the whole document."""
    company = _parameter(
        "company",
        "path",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
        required=True,
        description="The account; `company_X` means `X`.",
    )
    paths: Document = {
        path: {**({"parameters": [company]} if "{company}" in path else {}), **by_method}
        for path, by_method in PATHS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Signal Keystore",
            "version": version,
            "description": "Stores the Signal-protocol state of WhatsApp bots. See docs/http.md.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`run.py token create`"}},
            "schemas": SCHEMAS,
        },
    }


class OpenApiResource:
    """Serves the document."""

    def __init__(self, version: str) -> None:
        self._document = msgspec.json.encode(openapi(version))

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the document."""
        resp.data = self._document
