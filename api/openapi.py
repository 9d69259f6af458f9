"""The OpenAPI 3.1 document of the API, and the resource that serves it.

The schemas are made from the types that bodies are decoded as, and that answers are encoded from.
`tests/api/test_openapi.py` compares the document with the routes, and with the answers that they give.
"""

from typing import Any

import falcon
import msgspec

from api import company_schemas as schemas
from api.problems import MEDIA_TYPE, TITLES, ProblemDocument
from keystore.invocation import command
from monitor.reports.check import CheckReport

Document = dict[str, Any]

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
COMPANY_PATH = "/v1/companies/{company}"

ALIASES = {name: getattr(schemas, name) for name in ("Count", "IdsByType", "KeysByType", "ValuesById")}
CLASSES = (
    *(schemas.WriteStateRequest, schemas.GetKeysRequest, schemas.LeaseRequest, schemas.HeartbeatRequest),
    *(schemas.WritesRequest, schemas.WritesResponse),
    *(schemas.StateResponse, schemas.UsedKeysResponse, schemas.LeaseResponse, CheckReport, ProblemDocument),
)


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Document:
    """Return all schemas by name: of the aliases, of the classes and those within them, and of what has no type."""
    types = [*ALIASES.values(), *CLASSES]
    inline, classes = msgspec.json.schema_components(types, ref_template=_ref("{name}")["$ref"])
    for schema in classes.values():
        for name, field in schema["properties"].items():
            if name.endswith("_at"):
                field.get("anyOf", [field])[0]["format"] = "date-time"
    creds = {"not": {"type": "null"}, "description": "The credentials document: any JSON but null."}
    return {**dict(zip(ALIASES, inline, strict=False)), **classes, "Object": {"type": "object"}, "Creds": creds}


def _problem(status: int) -> Document:
    slugs = [slug for slug, (slug_status, _) in TITLES.items() if slug_status == status]
    answer: Document = {
        "description": "; ".join(f"{TITLES[slug][1]} (`{slug}`)" for slug in slugs),
        **_content(MEDIA_TYPE, _ref("ProblemDocument")),
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
        if status in responses:
            responses[status]["content"] |= answer["content"]
        else:
            responses[status] = answer
    return {"summary": summary, "responses": responses, **more}


def _of_bot(summary: str, *problems: int, body: str = "", answer: str = "", **more: Any) -> Document:
    """Return an operation of a bot; `body` and `answer` name their schemas. Without an answer its status is 204."""
    answers = _json(answer) if answer else {"204": {"description": "Done."}}
    if body:
        problems, more = (*problems, 408, 413, 415), {**more, **_body(_ref(body))}
    return _operation(summary, answers, 400, *_ANY, *problems, **more)


def _write(summary: str, body: str = "") -> Document:
    """Return a bot's operation that needs the lease's epoch while a lease is in force, and may be numbered."""
    epoch = "The lease's epoch; needed while a lease is in force."
    seq = "The write's number under this epoch, from 1 on. A repeated or lower number is answered as done."
    numbers = [
        _parameter(name, "header", _ref("Count"), description=description)
        for name, description in (
            ("Keystore-Epoch", epoch),
            ("Keystore-Seq", seq),
            ("Keystore-Acknowledged", "The last acknowledged number; the write is refused if the database lacks it."),
        )
    ]
    return _of_bot(summary, 409, body=body, parameters=numbers)


_ANY = (401, 403, 429, 500, 503)
_NO_TOKEN: Document = {"security": []}

_RELEASES = [
    _parameter("holder", "query", schemas.NAME, required=True),
    _parameter("epoch", "query", _ref("Count"), required=True),
]
_LISTING = [
    _parameter("search", "query", {"type": "string"}, description="A part of the ids of companies."),
    _parameter("page", "query", {"type": "string"}, description="The page of the list of companies."),
    _parameter("order", "query", {"type": "string"}, description="Its order: id, keys, latest or oldest."),
    _parameter("refresh", "query", {"type": "string"}, description="Seconds until the page loads again, or off."),
]
_FORM = _body({"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}, FORM)

_REDIRECT = _text("text/plain", "Go on there.")
_UNAVAILABLE = _text("text/html", "The database does not answer: a browser gets a page, a program a problem.")

PATHS: dict[str, dict[str, Document]] = {
    COMPANY_PATH: {"delete": _write("Delete creds and all keys")},
    f"{COMPANY_PATH}/state": {
        "get": _of_bot("All that a bot needs to reconnect; gzip when asked for", answer="StateResponse"),
        "post": _write("Write creds and keys as one", "WriteStateRequest"),
    },
    f"{COMPANY_PATH}/creds": {
        "get": _of_bot("The credentials document", 404, answer="Creds"),
        "put": _write("Replace the credentials document", "Creds"),
    },
    f"{COMPANY_PATH}/keys": {
        "post": _write("Write and delete keys, all or nothing", "KeysByType"),
        "delete": _write("Delete all keys; the creds stay"),
    },
    f"{COMPANY_PATH}/keys/get": {
        "post": _of_bot(
            "Read keys of one type; a read is a use, and an id that isn't stored is left out",
            body="GetKeysRequest",
            answer="ValuesById",
        )
    },
    f"{COMPANY_PATH}/keys/used": {"post": _of_bot("Mark keys as used", body="IdsByType", answer="UsedKeysResponse")},
    f"{COMPANY_PATH}/lease": {
        "post": _of_bot("Take or renew the right to write", 409, body="LeaseRequest", answer="LeaseResponse"),
        "delete": _of_bot("End the lease; a stale one is left alone", parameters=_RELEASES),
    },
    f"{COMPANY_PATH}/heartbeat": {"post": _of_bot("The bot's use of memory, for the alerts", body="HeartbeatRequest")},
    "/v1/writes": {
        "post": _of_bot(
            "Write for several companies, each all or nothing; the token must reach them",
            body="WritesRequest",
            answer="WritesResponse",
        )
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
        "get": _operation(
            "The form for an admin token; while the database is down, a page that says so",
            {"200": _text("text/html", "The form."), "503": _UNAVAILABLE},
            *_ANY,
            **_NO_TOKEN,
        ),
        "post": _operation(
            "Begin a session: a cookie stands for the token, for 12 hours",
            {"303": _REDIRECT, "403": _text("text/html", "Not an admin token."), "503": _UNAVAILABLE},
            *(400, *_ANY, 408, 413, 415),
            **_FORM,
            **_NO_TOKEN,
        ),
    },
    "/help": {
        "get": _operation(
            "The page's words and alerts, explained", {"200": _text("text/html", "The page.")}, 500, **_NO_TOKEN
        )
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
    of_company = {"parameters": [company]}
    paths = {path: {**(of_company if "{company}" in path else {}), **methods} for path, methods in PATHS.items()}
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
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": f"`{command('token create')}`"}
            },
            "schemas": _schemas(),
        },
    }


class OpenApiResource:
    """Serves the document."""

    def __init__(self, version: str) -> None:
        self._document = msgspec.json.encode(openapi(version))

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the document."""
        resp.data = self._document
