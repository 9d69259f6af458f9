"""Reads a stored document as the tests compare it: with its Buffers as bytes."""

import base64
import json
from typing import Any

from keystore.baileys import stored_value


def revived(text: bytes) -> Any:
    """The document that is stored for a JSON text, with every Buffer as bytes."""
    return json.loads(stored_value(text), object_hook=_bytes_of_buffer)


def _bytes_of_buffer(item: dict[str, Any]) -> Any:
    return base64.b64decode(item["data"], validate=True) if item.get("type") == "Buffer" else item
