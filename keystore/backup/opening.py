"""From the text of KEYSTORE_SECRET_KEYS to the keys of archives, and the error where a key is missing.

`archive_keys.py` imports `cryptography`, which only sealed archives need. So it is imported here, where a key is set.
"""

from typing import TYPE_CHECKING

from keystore.errors import SecretKeyMissing
from keystore.sealing.secret_keys import parse_secret_keys

if TYPE_CHECKING:
    from keystore.backup.archive_keys import ArchiveKeys


def archive_keys(secret_keys: str) -> "ArchiveKeys | None":
    """Return the keys that a text of KEYSTORE_SECRET_KEYS names; None for an empty one. Raises InvalidInput."""
    masters = parse_secret_keys(secret_keys)
    if not masters:
        return None
    from keystore.backup.archive_keys import ArchiveKeys

    return ArchiveKeys(masters)


def missing_master(key_id: str) -> SecretKeyMissing:
    """Return the error for an archive whose master key isn't here."""
    return SecretKeyMissing(
        f"the archive is sealed by the secret key with the id {key_id}, which isn't in KEYSTORE_SECRET_KEYS; add it, "
        "behind a newer one if there is one. Nothing was changed"
    )
