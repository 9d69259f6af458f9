"""The text of KEYSTORE_SECRET_KEYS: master keys, each 32 bytes in base64, newest first."""

import base64
import binascii
import re
from collections.abc import Iterable

from keystore.errors import InvalidInput, SecretKeyMissing

KEY_BYTES = 32
"""Length of a master key, and of a data key: AES-256."""

HOW_TO_MAKE_A_KEY = "`openssl rand -base64 32` makes one"


def parse_secret_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys of a text; white space or commas stand between them. Raises InvalidInput, and quotes no key."""
    keys = []
    for number, part in enumerate(filter(None, re.split(r"[\s,]+", text)), 1):
        key = _decoded(part)
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"secret key {number} isn't 32 bytes in base64; {HOW_TO_MAKE_A_KEY}")
        if len(set(key)) < KEY_BYTES // 4:
            raise InvalidInput(f"secret key {number} repeats a few bytes, so it isn't random; {HOW_TO_MAKE_A_KEY}")
        keys.append(key)
    if len(set(keys)) < len(keys):
        raise InvalidInput("two secret keys are the same; name each once, newest first")
    return tuple(keys)


def _decoded(text: str) -> bytes:
    """Return the bytes of base64, in either alphabet, padded or not; empty if it is none."""
    unpadded = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def require_masters(sealed_by: Iterable[bytes], master_ids: Iterable[bytes]) -> None:
    """Raise SecretKeyMissing unless each master key that sealed something is there."""
    missing = sorted(set(sealed_by) - set(master_ids))
    if missing:
        lacking = ", ".join(key_id.hex() for key_id in missing)
        raise SecretKeyMissing(
            f"KEYSTORE_SECRET_KEYS: values in this database are sealed, and the key with the id {lacking} isn't there; "
            "set the key that was used, behind a newer one if there is one"
        )
