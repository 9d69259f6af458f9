"""The keys or the hash of a Redis adapter, as redis-cli or a dump tool wrote them.

The keys are `{type}-{id}` with a prefix for the bot (baileys-redis-auth), or the fields of one hash for each bot
(baileys-redis-auth's HSet, Evolution API). Read are:

- `redis-cli --json HGETALL KEY`, `redis-cli --csv HGETALL KEY`, and `redis-cli HGETALL KEY` into a file;
- a JSON object of keys and values, or of hashes by their key;
- JSON lines or CSV with `key` and `value`, as redis-dump writes them; a value may be a hash.

A value may be in the envelope of Keyv.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from keystore.errors import InvalidInput
from monitor.transfer.readers.columns import unreadable
from monitor.transfer.readers.dump_file import DumpFile, StoredValue, value_text
from monitor.transfer.readers.key_names import prefixes, split_name
from monitor.transfer.readers.text_files import Records, read_records

REDIS_COLUMNS = {"key", "value", "type", "ttl", "pttl", "db", "size", "expireat", "field"}
REDIS_TYPES = {"", "string", "hash", "none"}


class RedisDump(DumpFile):
    """Keys of Redis, or a hash."""

    read_as = "redis"
    describes = "HGETALL, or keys and values (baileys-redis-auth, Evolution)"

    @classmethod
    def recognizes(cls, path: Path, records: Records | None) -> bool:
        if records is None:
            return False
        if records.form == "rows":
            kinds = {str(row.get("type", "")).lower() for row in records.rows}
            return {"key", "value"} <= records.columns <= REDIS_COLUMNS and kinds <= REDIS_TYPES
        return any(value.name is not None for value in _of_mapping(records.rows[0]))

    def values(self) -> Iterable[StoredValue]:
        records = read_records(self.path)
        if records.form != "rows":
            return chain(_of_mapping(records.rows[0]), unreadable(records))
        if not {"key", "value"} <= records.columns:
            raise InvalidInput(f"{self.path} has no keys of Redis: each row needs key and value")
        return chain(_of_mapping({str(row.get("key")): row.get("value") for row in records.rows}), unreadable(records))


def _of_mapping(content: Mapping[str, Any]) -> Iterator[StoredValue]:
    """Yield keys and values, and the fields of hashes among them under the name of their hash."""
    before = prefixes(content)
    for name, value in content.items():
        bot, key = split_name(name, before)
        if key is None and isinstance(value, dict):
            for field in _of_mapping(value):
                yield StoredValue(name, field.label, field.name, field.text)
        else:
            yield StoredValue(bot, name, key, _without_envelope(value_text(value)))


def _without_envelope(text: bytes) -> bytes:
    """The value that Keyv wrote into `{"value": …, "expires": …}`."""
    if text.startswith(b'{"value":'):
        with suppress(ValueError, RecursionError):
            envelope = json.loads(text)
            if envelope.keys() <= {"value", "expires"}:
                return value_text(envelope["value"])
    return text
