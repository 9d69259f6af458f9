"""The identity in a company's creds: other creds of the same account keep it, and a new pairing doesn't."""

import json


def is_other_identity(old_creds: bytes, new_creds: bytes) -> bool:
    """Return True when creds are replaced by those of another identity. An account that is only known now isn't one."""
    parts = zip(_identity(old_creds), _identity(new_creds), strict=True)
    return any(before is not None and after is not None and before != after for before, after in parts)


def _identity(creds_text: bytes) -> tuple[object, object, object]:
    """Return the public noise key, the registration id and the account in creds; None for what is missing."""
    try:
        creds = json.loads(creds_text)
        noise_key, me = creds.get("noiseKey"), creds.get("me")
        public = noise_key["public"]["data"] if noise_key else None
        return public, creds.get("registrationId"), me.get("id") if me else None
    except (ValueError, AttributeError, KeyError, TypeError):
        return None, None, None
