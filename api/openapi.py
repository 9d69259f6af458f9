"""What the API offers, as an OpenAPI 3.1 document.

`tests/api/test_openapi.py` holds it to the routes, and to what they answer.
"""

from typing import Any

from api.bodies import MAX_IDS, MAX_NUMBER
from api.problems import MEDIA_TYPE, TITLES, TYPE_PREFIX

Document = dict[str, Any]

JSON = "application/json"

NAME = {"type": "string", "minLength": 1, "maxLength": 255}
COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}
EPOCH = {**COUNT, "description": "Rises with each holder of the lease."}
TIME = {"type": "string", "format": "date-time"}
VALUE = {
    "description": (
        'Any JSON; it is kept in the bytes it came in. `{"$base64": "…"}` stands for bytes that aren\'t JSON. '
        "In a write, null deletes the key."
    )
}
CREDS = {"description": "The credentials document, any JSON; null where there is none."}

COMPANY_PATH = "/v1/companies/{company}"


def _object(properties: Document, required: tuple[str, ...] = (), **more: Any) -> Document:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _map(of: Document) -> Document:
    return {"type": "object", "propertyNames": NAME, "additionalProperties": of}


KEYS = _map(_map(VALUE))
IDS = {"type": "array", "items": NAME, "maxItems": MAX_IDS}

SCHEMAS: Document = {
    "Object": {"type": "object"},
    "Creds": {"not": {"type": "null"}, "description": "The credentials document: any JSON but null."},
    "State": _object({"creds": CREDS, "keys": KEYS}, ("creds", "keys")),
    "StateWrite": _object(
        {"creds": {**CREDS, "description": "Absent or null: left as they are."}, "keys": KEYS},
        additionalProperties=False,
    ),
    "Keys": {**KEYS, "description": "`{type: {id: value}}`"},
    "WantedKeys": _object({"type": NAME, "ids": IDS}, ("type", "ids"), additionalProperties=False),
    "FoundKeys": {**_map(VALUE), "description": "`{id: value}`; an id that isn't stored isn't in it."},
    "UsedKeys": {**_map(IDS), "description": "`{type: [id, …]}`"},
    "LeaseAsked": _object(
        {
            "holder": {**NAME, "description": "Who takes it; the same name takes its own back at once."},
            "ttl_s": {"type": "number", "minimum": 5, "maximum": 3600},
            "epoch": {"description": "Renews the lease of this epoch.", "anyOf": [EPOCH, {"type": "null"}]},
            "force": {"type": "boolean", "default": False, "description": "Takes it from a holder that still lives."},
        },
        ("holder", "ttl_s"),
        additionalProperties=False,
    ),
    "Lease": _object({"epoch": EPOCH, "expires_at": TIME}, ("epoch", "expires_at")),
    "Heartbeat": _object(
        {
            "rss_bytes": COUNT,
            "heap_used_bytes": COUNT,
            "heap_limit_bytes": {**COUNT, "minimum": 1},
            "heap_total_bytes": {"anyOf": [COUNT, {"type": "null"}]},
        },
        ("rss_bytes", "heap_used_bytes", "heap_limit_bytes"),
    ),
    "Check": _object(
        {
            "database": {"type": "string"},
            "verdict": {"enum": ["ok", "warning", "critical"]},
            "advice": {"type": "array", "items": {"type": "string"}},
            "taken_at": TIME,
            "last_activity_at": {"anyOf": [TIME, {"type": "null"}]},
            "last_sweep": {"type": ["object", "null"]},
            **dict.fromkeys(("total", "active", "expired", "guarded", "without_expiry", "companies"), COUNT),
        },
        ("database", "verdict", "advice", "total", "active", "expired", "guarded", "without_expiry", "companies"),
        description="What `python run.py check --json` prints.",
    ),
    "Problem": _object(
        {
            "type": {"type": "string", "enum": [TYPE_PREFIX + slug for slug in TITLES]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What to do."},
            "request_id": {"type": "string"},
            "holder": {"type": "string", "description": "With `lease-held`: who has it."},
            "expires_at": {**TIME, "description": "With `lease-held`: until when."},
        },
        ("type", "title", "status", "detail", "request_id"),
        description="RFC 9457.",
    ),
}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _problem(status: int) -> Document:
    slugs = [slug for slug, (of_slug, _) in TITLES.items() if of_slug == status]
    answer: Document = {
        "description": "; ".join(f"{TITLES[slug][1]} (`{slug}`)" for slug in slugs),
        "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
    }
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return answer


def _route(
    summary: str, answer: tuple[int, str | None], *problems: int, body: str | None = None, **more: Any
) -> Document:
    """One operation: its answer's status and schema, and the problems it may answer with."""
    status, schema = answer
    done: Document = {"description": "Done." if schema is None else "The answer."}
    if schema is not None:
        done["content"] = {JSON: {"schema": _ref(schema)}}
    told = {"summary": summary, "responses": {str(status): done, **{str(code): _problem(code) for code in problems}}}
    if body is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(body)}}}
    return {**told, **more}


_ANY = (401, 403, 429, 500, 503)
_COMPANY = (400, *_ANY)
_BODY = (*_COMPANY, 413, 415)
_NOBODY: Document = {"security": []}

_WRITES: Document = {
    "parameters": [
        {
            "name": "Keystore-Epoch",
            "in": "header",
            "schema": COUNT,
            "description": "The lease's epoch; needed while a lease lives.",
        }
    ]
}
_RELEASES: Document = {
    "parameters": [
        {"name": "holder", "in": "query", "required": True, "schema": NAME},
        {"name": "epoch", "in": "query", "required": True, "schema": COUNT},
    ]
}

HTML = "text/html; charset=utf-8"


def _page(summary: str, answers: Document, *problems: int, **more: Any) -> Document:
    """One operation of the status page: its answers apart from problem documents, and those."""
    responses: Document = {str(code): _problem(code) for code in problems}
    for status, answer in answers.items():
        told = responses.setdefault(status, {"description": answer["description"]})
        told["content"] = {**told.get("content", {}), **answer.get("content", {})}
    return {"summary": summary, "responses": responses, **more}


def _html(description: str) -> Document:
    return {"description": description, "content": {HTML: {"schema": {"type": "string"}}}}


_ELSEWHERE: Document = {
    "description": "Go on there.",
    "content": {"text/plain; charset=utf-8": {"schema": {"type": "string"}}},
}
_AWAY = _html("The database gives no answer; a browser gets a page, a program a problem.")
_PAGES: dict[str, dict[str, Document]] = {
    "/metrics": {
        "get": _page(
            "For Prometheus",
            {
                "200": {
                    "description": "Its text format.",
                    "content": {"text/plain; version=0.0.4; charset=utf-8": {"schema": {"type": "string"}}},
                }
            },
            *_ANY,
        ),
    },
    "/": {
        "get": _page(
            "The status page, for an admin's session or token; a browser without either is sent to /sign-in",
            {"200": _html("The page."), "303": _ELSEWHERE, "503": _AWAY},
            *_ANY,
            parameters=[
                {"name": name, "in": "query", "schema": {"type": "string"}, "description": description}
                for name, description in (("search", "Companies whose id has this."), ("page", "Of the companies."))
            ],
        ),
    },
    "/sign-in": {
        "get": _page("The form for an admin token", {"200": _html("The form.")}, *_ANY, **_NOBODY),
        "post": _page(
            "Begin a session: a cookie stands for the token, for 12 hours",
            {"303": _ELSEWHERE, "403": _html("Not an admin's token."), "503": _AWAY},
            *_BODY,
            requestBody={
                "required": True,
                "content": {
                    "application/x-www-form-urlencoded": {"schema": _object({"token": {"type": "string"}}, ("token",))}
                },
            },
            **_NOBODY,
        ),
    },
    "/sign-out": {"post": _page("End the session", {"303": _ELSEWHERE}, *_ANY)},
}

PATHS: dict[str, dict[str, Document]] = {
    COMPANY_PATH: {
        "delete": _route("Delete creds and all keys", (204, None), *_COMPANY, 409, **_WRITES),
    },
    f"{COMPANY_PATH}/state": {
        "get": _route("Everything for a reconnect; gzip when asked for", (200, "State"), *_COMPANY),
        "post": _route("Write creds and keys as one", (204, None), *_BODY, 409, body="StateWrite", **_WRITES),
    },
    f"{COMPANY_PATH}/creds": {
        "get": _route("The credentials document", (200, "Creds"), *_COMPANY, 404),
        "put": _route("Replace the credentials document", (204, None), *_BODY, 409, body="Creds", **_WRITES),
    },
    f"{COMPANY_PATH}/keys": {
        "post": _route("Write and delete keys, all or nothing", (204, None), *_BODY, 409, body="Keys", **_WRITES),
    },
    f"{COMPANY_PATH}/keys/get": {
        "post": _route("Read keys of one type; a read is a use", (200, "FoundKeys"), *_BODY, body="WantedKeys"),
    },
    f"{COMPANY_PATH}/keys/used": {
        "post": _route("Mark keys as used", (204, None), *_BODY, body="UsedKeys"),
    },
    f"{COMPANY_PATH}/lease": {
        "post": _route("Take or renew the right to write", (200, "Lease"), *_BODY, 409, body="LeaseAsked"),
        "delete": _route("End the lease; a stale one is left alone", (204, None), *_COMPANY, **_RELEASES),
    },
    f"{COMPANY_PATH}/heartbeat": {
        "post": _route("A bot's memory, for the watch", (204, None), *_BODY, body="Heartbeat"),
    },
    "/healthz": {"get": _route("Whether the process lives", (200, "Object"), 500, **_NOBODY)},
    "/readyz": {"get": _route("Whether a bot can use it", (200, "Object"), 500, 503, **_NOBODY)},
    "/v1/health": {"get": _route("The `check` report", (200, "Check"), *_ANY)},
    "/openapi.json": {"get": _route("This document", (200, "Object"), *_ANY)},
    **_PAGES,
}


def openapi(version: str) -> Document:
    """The whole document."""
    company = {
        "name": "company",
        "in": "path",
        "required": True,
        "description": "The account; `company_X` means `X`.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    }
    paths: Document = {
        path: {**({"parameters": [company]} if "{company}" in path else {}), **by_method}
        for path, by_method in PATHS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Signal Keystore",
            "version": version,
            "description": "Where WhatsApp bots keep their Signal-protocol state. See docs/http.md.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`run.py token create`"}},
            "schemas": SCHEMAS,
        },
    }
