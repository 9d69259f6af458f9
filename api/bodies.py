"""Request bodies and parameters: size limits, however a body is sent, and decoding into the type of the route."""

from time import monotonic
from typing import TypeVar

import falcon
import msgspec

from api.problems import Problem

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_IDS = 10_000
MAX_NUMBER = 2**53 - 1
"""The largest whole number that JavaScript represents exactly."""

READ_BYTES = 1 << 16
"""Size of one read. Granian returns when this much has arrived, and the timeout is checked between two reads."""

BODY_TIMEOUT_S = 30.0
"""Time for the whole body: 16 MiB at 5 Mbit/s."""

T = TypeVar("T")


def read_body(req: falcon.Request) -> bytes:
    """Return the whole body, which is UTF-8. Raises Problem: 413 beyond 16 MiB, 415 if its type isn't JSON, 400.

    Granian ends the stream where the body ends, also for a body that is sent in chunks without a length.
    """
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem("unsupported-media-type", "send JSON, with Content-Type: application/json")
    if (req.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    chunks: list[bytes] = []
    size_bytes, give_up_at = 0, monotonic() + BODY_TIMEOUT_S
    while chunk := req.stream.read(READ_BYTES):
        size_bytes += len(chunk)
        if size_bytes > MAX_BODY_BYTES:
            raise _too_large()
        if monotonic() > give_up_at:
            detail = f"the body didn't arrive within {BODY_TIMEOUT_S:.0f} s"
            raise Problem("invalid-input", detail, {"Connection": "close"})
        chunks.append(chunk)
    if size_bytes < (req.content_length or 0):
        raise Problem("invalid-input", f"the body broke off: {size_bytes} of {req.content_length} bytes arrived")
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise Problem("invalid-input", "the body isn't UTF-8") from None
    return body


def decoded_body(req: falcon.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Return the body as the decoder's type. Raises Problem as `read_body`, and 400 with the place, never a value."""
    body = read_body(req)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem("invalid-input", f"body: {error}") from None
    except msgspec.DecodeError as error:
        raise Problem("invalid-input", f"the body isn't JSON: {error}") from None
    except RecursionError:
        raise Problem("invalid-input", "body: nested too deeply") from None


def limit_ids(count: int) -> None:
    """Raise Problem (413) if a request names more ids than it may."""
    if count > MAX_IDS:
        raise Problem("too-large", f"{count} ids; a request names at most {MAX_IDS}: send several")


def whole_number(text: str | None, name: str) -> int:
    """Return the number that a parameter or header holds as digits. Raises Problem (400), which names it."""
    if text and len(text) <= len(str(MAX_NUMBER)) and text.isascii() and text.isdigit() and int(text) <= MAX_NUMBER:
        return int(text)
    raise Problem("invalid-input", f"{name}: a whole number is needed, digits alone")


def _too_large() -> Problem:
    return Problem("too-large", f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB; send several")
