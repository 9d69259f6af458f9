"""The sealed form of a value: the only module that encrypts, and that imports `cryptography`.

A sealed value is the format byte 1, the id of its key (8 bytes), a random nonce (12 bytes), and the ciphertext of
AES-256-GCM with its tag (16 bytes). The name of the value is authenticated with it: a value that stands under another
company, type or id doesn't open. `docs/sealing.md` describes the form for other programs.
"""

import os
from hashlib import sha256

from cryptography.exceptions import InvalidTag as InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keystore.errors import CorruptValue
from keystore.values.codec import HEAD_BYTES, KEY_ID_BYTES, NONCE, NONCE_BYTES, SEALED

TEXT = slice(NONCE.stop, None)
"""The place of the ciphertext in a sealed value."""


def name_part(text: str) -> bytes:
    """Return the company or type in a name as it is authenticated: its length in 4 bytes, then its UTF-8."""
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def full_name(company: str, key_type: str, key_id: str) -> bytes:
    """Return the name of a value as it is authenticated; the id is what follows company and type.

    The creds have an empty type and id.
    """
    return name_part(company) + name_part(key_type) + key_id.encode()


class SealingKey:
    """A key of 32 bytes that seals and opens values; thread-safe. Its `id` says nothing about it."""

    def __init__(self, raw: bytes) -> None:
        self.id = sha256(b"signal-keystore key id" + raw).digest()[:KEY_ID_BYTES]
        self.head = SEALED + self.id
        """The first bytes of every value that this key has sealed."""
        self._cipher = AESGCM(raw)
        self.decrypt = self._cipher.decrypt
        """Returns the value of a nonce, a ciphertext and a name. Raises InvalidTag, and ValueError for a short one."""

    def seal(self, value: bytes, name: bytes, nonce: bytes | None = None) -> bytes:
        """Return the sealed form of a value of this name. Only a test vector passes a `nonce`."""
        nonce = nonce or os.urandom(NONCE_BYTES)
        return self.head + nonce + self._cipher.encrypt(nonce, value, name)

    def open(self, stored: bytes, name: bytes) -> bytes:
        """Return the value of a sealed form. Raises CorruptValue if another key sealed it, or under another name."""
        if stored[:HEAD_BYTES] == self.head:
            try:
                return self.decrypt(stored[NONCE], stored[TEXT], name)
            except (InvalidTag, ValueError):
                pass
        raise CorruptValue(DOES_NOT_OPEN)


DOES_NOT_OPEN = "it doesn't open: it was changed, or sealed for another company, type or id"


def key_id_of(stored: bytes) -> bytes:
    """Return the id of the key that sealed a value."""
    return stored[len(SEALED) : HEAD_BYTES]


def cannot_decrypt(_nonce: bytes, _ciphertext: bytes, _name: bytes) -> bytes:
    """Stand in for `SealingKey.decrypt` where no key is known. Raises InvalidTag."""
    raise InvalidTag
