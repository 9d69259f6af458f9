"""RFC 9457 problem documents: a type to act on, and a detail that says what to do.

All errors become problems here. No problem contains a value, a token or a password.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import falcon
import msgspec
from msgspec import UNSET, Meta, UnsetType

from keystore import errors

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:signal-keystore:"

LOG_SAYS_MORE = "the service's log says why"

RETRY_AFTER_S = 2
RETRY_AFTER_MIGRATION_S = 30

TITLES = {
    "invalid-input": (400, "The request can't be used"),
    "unauthorized": (401, "A token is needed"),
    "forbidden": (403, "The token isn't for this"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method isn't for this"),
    "too-slow": (408, "The request came too slowly"),
    "lease-lost": (409, "The lease has passed on"),
    "lease-held": (409, "Another holder has the lease"),
    "went-back": (409, "The database lacks an acknowledged write"),
    "too-large": (413, "The request is too large"),
    "over-quota": (413, "The company has no room for this"),
    "unsupported-media-type": (415, "The body isn't JSON"),
    "too-many-requests": (429, "Too many requests"),
    "internal": (500, "Something went wrong in the service"),
    "unavailable": (503, "The database can't be reached"),
    "schema-mismatch": (503, "The database's tables don't fit"),
    "busy": (503, "The service is busy"),
}
"""Status and title of every problem, by the last part of its type."""


class ProblemDocument(msgspec.Struct):
    """RFC 9457."""

    type: Annotated[str, Meta(extra_json_schema={"enum": [TYPE_PREFIX + slug for slug in TITLES]})]
    title: str
    status: int
    detail: Annotated[str, Meta(description="What to do.")]
    request_id: str
    holder: Annotated[str | UnsetType, Meta(description="With `lease-held`: the holder of the lease.")] = UNSET
    expires_at: Annotated[datetime | UnsetType, Meta(description="With `lease-held`: its end.")] = UNSET


@dataclass(eq=False)
class Problem(Exception):
    """Ends a request with an error. `slug` is one of TITLES; `detail` says what to do."""

    slug: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return TITLES[self.slug][0]

    def __str__(self) -> str:
        return self.detail

    def document(self, request_id: str) -> ProblemDocument:
        """Return the problem as a client gets it."""
        status, title = TITLES[self.slug]
        return ProblemDocument(TYPE_PREFIX + self.slug, title, status, self.detail, request_id, **self.extra)


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to repeat the request."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def problem_of(error: Exception, *, in_detail: bool) -> Problem:
    """Return the problem that a client gets for an error. An unexpected error is `internal`, without its message.

    `in_detail` is true for an operator, who may read the names of the database and its host.
    """
    match error:
        case Problem():
            return error
        case errors.LeaseHeld():
            extra = {"holder": error.holder, "expires_at": error.expires_at}
            return Problem("lease-held", str(error), extra=extra)
        case errors.LeaseLost():
            return Problem("lease-lost", str(error))
        case errors.WentBack():
            return Problem("went-back", str(error))
        case errors.QuotaExceeded():
            return Problem("over-quota", str(error))
        case errors.InvalidInput():
            return Problem("invalid-input", str(error))
        case errors.SchemaMismatch():
            detail = str(error) if in_detail else f"the database's tables aren't those of this version; {LOG_SAYS_MORE}"
            return Problem("schema-mismatch", detail, retry_after(RETRY_AFTER_MIGRATION_S))
        case errors.SecretKeyMissing():
            detail = str(error) if in_detail else f"the service can't open the company's values; {LOG_SAYS_MORE}"
            return Problem("unavailable", detail, retry_after(RETRY_AFTER_MIGRATION_S))
        case errors.StoreUnavailable() | errors.StoreClosed():
            detail = str(error) if in_detail else f"the database can't do this now; {LOG_SAYS_MORE}"
            return Problem("unavailable", f"{detail}; repeating the request is safe", retry_after(RETRY_AFTER_S))
        case errors.KeystoreError():
            return Problem("internal", str(error))
        case falcon.HTTPMethodNotAllowed():
            return Problem("method-not-allowed", "/openapi.json lists the methods", dict(error.headers or {}))
        case falcon.HTTPNotFound():
            return Problem("not-found", "no such address; /openapi.json lists all")
        case falcon.HTTPError() if error.status_code < 500:
            return Problem("invalid-input", str(error.description or error.title))
        case _:
            return Problem("internal", "see the service's log under this request_id")


def rfc3339(moment: datetime) -> str:
    """Return a time in UTC in the form of RFC 3339."""
    return moment.isoformat().replace("+00:00", "Z")
