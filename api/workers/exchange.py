"""A request and its answer, while a worker has them in hand."""

from dataclasses import dataclass, field
from typing import Any

from api.workers.server import Connection, Pending, Stream
from api.workers.turns import COMPANIES, Lane
from keystore.ids import COMPANY_PREFIX
from keystore.records import TokenRecord


@dataclass(eq=False, slots=True)
class Exchange:
    """A request and its answer."""

    connection: Connection
    client: str
    path: str
    wsgi: dict[str, Any]
    """The environ of the application: cleared once the request is answered."""
    body_bytes: int | None
    """Size that the client announces; None if it sends the body in chunks, 0 without a body."""
    lane: Lane = COMPANIES
    company: str | None = None
    token_id: str = ""
    limited_companies: int = 0
    """The number of companies of the token, which limits its large bodies and answers; 0 for an admin: no limit."""
    admitted: bool = False
    """True once the request counts for the rate limit of its token."""
    chunks: list[bytes] = field(default_factory=list)
    arrived_bytes: int = 0
    counted_bytes: int = 0
    """Bytes of the body, or of the answer that is expected, that count as memory of the token."""
    answer_bytes: int = 0
    """Bytes of a large answer, which count until the client has it."""
    ends: bool = False
    """True if the connection ends with the answer, though the body is still coming."""
    give_up_at: float = 0.0
    pending: Pending | None = None
    stream: Stream | None = None


class Response:
    """The status and headers of an answer, in WSGI's way."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.headers: list[tuple[str, str]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.status = int(status[:3])
        self.headers = headers


def announced_bytes(environ: dict[str, Any]) -> int | None:
    """Return the size that the headers announce: None for a body in chunks, 0 without a body."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    length = environ.get("CONTENT_LENGTH")
    return int(length) if length is not None and length.isdigit() else 0


def charged_company(caller: TokenRecord, path: str) -> str | None:
    """Return the company for which a request counts: that of its path, if the token is for it, or the token's first.

    So nobody's requests count for a company of others. An admin's request without a company counts for none.
    """
    parts = path.split("/", 4)
    company = parts[3].removeprefix(COMPANY_PREFIX) if len(parts) > 3 and parts[2] == "companies" else None
    return company if company is not None and caller.reaches(company) else caller.company_id
