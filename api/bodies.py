"""Request bodies and parameters: size limits, however a body is sent, and decoding into the type of the route."""

import secrets
import threading
from contextlib import suppress
from enum import Enum
from typing import Generic, TypeVar

import falcon
import msgspec

from api.handover import BODY
from api.json_values import is_utf8
from api.problems import Problem

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_IDS = 10_000

MAX_TYPES = 100
"""Types that a request names; Baileys has a dozen."""

COUNTED_BYTES = 64 * 1024
"""Size from which the names in a body are counted before it is decoded. The names of a shorter one fit into 3 MB."""

MAX_NUMBER = 2**53 - 1
"""The largest whole number that JavaScript represents exactly."""

BODY_TIMEOUT_S = 30.0
"""Time for the whole body: 16 MiB at 5 Mbit/s."""

T = TypeVar("T")


def read_body(req: falcon.Request) -> bytes:
    """Return the whole body, which is UTF-8. Raises Problem: 415 if its type isn't JSON, 400, and 413, 429, 503.

    The worker's front has read it, or refused it, before this request got a thread.
    """
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem("unsupported-media-type", "send JSON, with Content-Type: application/json")
    body: bytes | Problem = req.env.get(BODY, b"")
    if isinstance(body, Problem):
        raise body
    if len(body) < (req.content_length or 0):
        raise Problem("invalid-input", f"the body broke off: {len(body)} of {req.content_length} bytes arrived")
    if not is_utf8(body):
        raise Problem("invalid-input", "the body isn't UTF-8")
    return body


def decoded_body(req: falcon.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Return the body as the decoder's type. Raises Problem as `read_body`, and 400 with the place, never a value."""
    return _decoded(read_body(req), decoder)


def _decoded(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem("invalid-input", f"body: {error}") from None
    except msgspec.DecodeError as error:
        raise Problem("invalid-input", f"the body isn't JSON: {error}") from None
    except RecursionError:
        raise Problem("invalid-input", "body: nested too deeply") from None


class Counting(Generic[T]):
    """Decodes bodies that name types and ids. It counts the names of a long body first, so that a body can't take many
    times its size.

    The names are counted while msgspec looks for the end of the body: each becomes the same object, and no value is
    decoded. Of a short body the names are counted afterwards.
    """

    def __init__(self, decoder: msgspec.json.Decoder[T], counted: object) -> None:
        """`counted` is the decoder's type with `CountedType` and `CountedId` in place of the names."""
        self._decoder = decoder
        self._count = msgspec.json.Decoder(counted)

    def decoded(self, req: falcon.Request) -> T:
        """Return the body. Raises Problem as `decoded_body`, and 413 if it names too many types or ids."""
        body = read_body(req)
        if len(body) > COUNTED_BYTES:
            _counts.types = _counts.ids = 0
            with suppress(msgspec.DecodeError, RecursionError):  # The second decoding says what is wrong.
                self._count.decode(body)
            limit_names(_counts.types, _counts.ids)
        return _decoded(body, self._decoder)


class _Counts(threading.local):
    """The numbers of names in the body that a thread looks at."""

    types = 0
    ids = 0


_counts = _Counts()


class CountedType(Enum):
    """Stands for any type; each is counted."""

    ANY = secrets.token_hex()
    """No name that anybody sends, because such a name would not be counted."""

    @classmethod
    def _missing_(cls, value: object) -> "CountedType":
        _counts.types += 1
        limit_names(_counts.types, 0)
        return cls.ANY


class CountedId(Enum):
    """Stands for any id; each is counted."""

    ANY = secrets.token_hex()

    @classmethod
    def _missing_(cls, value: object) -> "CountedId":
        _counts.ids += 1
        limit_names(0, _counts.ids)
        return cls.ANY


def limit_names(types: int, ids: int) -> None:
    """Raise Problem (413) if a request names more types or ids than it may."""
    if types > MAX_TYPES:
        raise Problem("too-large", f"more than {MAX_TYPES} types; a request names at most {MAX_TYPES}: send several")
    if ids > MAX_IDS:
        raise Problem("too-large", f"more than {MAX_IDS} ids; a request names at most {MAX_IDS}: send several")


def whole_number(text: str | None, name: str) -> int:
    """Return the number that a parameter or header holds as digits. Raises Problem (400), which names it."""
    if text and len(text) <= len(str(MAX_NUMBER)) and text.isascii() and text.isdigit() and int(text) <= MAX_NUMBER:
        return int(text)
    raise Problem("invalid-input", f"{name}: a whole number is needed, digits alone")


def body_too_large() -> Problem:
    """Return the problem of a body beyond 16 MiB."""
    return Problem("too-large", f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB; send several")


def body_too_late() -> Problem:
    """Return the problem of a body that didn't arrive in time."""
    detail = f"the body didn't arrive within {BODY_TIMEOUT_S:.0f} s; repeat the request, over a faster line"
    return Problem("too-slow", detail, {"Connection": "close"})
