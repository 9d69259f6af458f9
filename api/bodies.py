"""A request's body: no larger than it may be, however it is sent, and of the shape that the route says."""

from time import monotonic
from typing import TypeVar

import falcon
import msgspec

from api.problems import Problem

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_IDS = 10_000
MAX_NUMBER = 2**53 - 1
"""What JavaScript counts exactly."""

READ_BYTES = 1 << 16
"""Granian waits until so many have come, and only between two reads can a slow body be given up."""

WITHIN_S = 30.0
"""For the whole body: 16 MiB at 5 Mbit/s."""

T = TypeVar("T")


def read_body(req: falcon.Request) -> bytes:
    """The whole body as UTF-8 JSON text. Raises Problem: 413 beyond 16 MiB, 415 unless it is said to be JSON.

    Granian ends the stream where the body ends, also one that is sent in chunks without a length.
    """
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem("unsupported-media-type", "send JSON, with Content-Type: application/json")
    if (req.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size_bytes, give_up_at = 0, monotonic() + WITHIN_S
    while part := req.stream.read(READ_BYTES):
        size_bytes += len(part)
        if size_bytes > MAX_BODY_BYTES:
            raise _too_large()
        if monotonic() > give_up_at:
            raise Problem("invalid-input", f"the body didn't come within {WITHIN_S:.0f} s", {"Connection": "close"})
        parts.append(part)
    if size_bytes < (req.content_length or 0):
        raise Problem("invalid-input", f"the body broke off: {size_bytes} of {req.content_length} bytes came")
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise Problem("invalid-input", "the body isn't UTF-8") from None
    return body


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type. Raises Problem (400) saying where it isn't; never shows a value."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem("invalid-input", f"body: {error}") from None
    except msgspec.DecodeError as error:
        raise Problem("invalid-input", f"the body isn't JSON: {error}") from None
    except RecursionError:
        raise Problem("invalid-input", "body: nested too deeply") from None


def limit_ids(count: int) -> None:
    """Raises Problem (413) for more ids than one request may name."""
    if count > MAX_IDS:
        raise Problem("too-large", f"{count} ids; a request names at most {MAX_IDS}: send several")


def number_param(req: falcon.Request, name: str) -> int:
    """A whole number from the query. Raises Problem (400)."""
    return whole_number(req.get_param(name), f"?{name}=")


def whole_number(text: str | None, what: str) -> int:
    """A number as text, digits alone. Raises Problem (400)."""
    if text and len(text) <= len(str(MAX_NUMBER)) and text.isascii() and text.isdigit() and int(text) <= MAX_NUMBER:
        return int(text)
    raise Problem("invalid-input", f"{what}: a whole number is needed, digits alone")


def _too_large() -> Problem:
    return Problem("too-large", f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB; send several")
