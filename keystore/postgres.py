"""The Postgres backend: each operation of a bot is one statement, and so one round trip.

Values travel and are kept as opaque bytes: on the diary's 665 keys `jsonb` cost nine times the fetch time.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keystore import codec, ids
from keystore.errors import SchemaMismatch
from keystore.postgres_link import PostgresLink
from keystore.sql_store import Clock, Row, Run, SqlStore, restorable, ttl_and_step
from keystore.statements import read_statements
from keystore.store import AuthState, KeyRow, Keys
from keystore.ttl import Policy

STATEMENTS = read_statements(Path(__file__).with_suffix(".sql"))


class PostgresStore(SqlStore):
    """A store on a migrated Postgres database, or one that only watches a diary-shaped one (`attached`)."""

    link: PostgresLink

    def __init__(
        self, link: PostgresLink, clock: Clock | None, policy: Policy, *, guard: bool, attached: bool
    ) -> None:
        super().__init__(link, STATEMENTS, clock, policy, guard=guard)
        self._attached = attached

    # A bot's operations.

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        company, key_type, wanted = ids.canonical_company(company_id), ids.checked_type(key_type), ids.checked_ids(key_ids)
        if not wanted:
            return {}
        ttl_s, step_s = ttl_and_step(self._policy, key_type)
        params = {"company_id": company, "key_type": key_type, "key_ids": wanted, "ttl_s": ttl_s, "step_s": step_s}
        found = self._bot_rows("get", **params)
        if any(raced for _, _, raced in found):
            found = self._bot_rows("get", **params)
        return {key_id: codec.decode(value, f"{company} {key_type} {key_id}") for key_id, value, _ in found}

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        company = ids.canonical_company(company_id)
        written, gone = ids.checked_writes(keys)
        if creds is not None:
            creds = codec.encode(ids.checked_value("creds", creds))
        if not written and not gone:
            if creds is not None:
                self._bot_rows("set_creds", company_id=company, creds=creds)
            return
        types = {key_type for key_type, _, _ in written}
        params = {
            "company_id": company,
            "key_types": [key_type for key_type, _, _ in written],
            "key_ids": [key_id for _, key_id, _ in written],
            "values": [codec.encode(value) for _, _, value in written],
            **self._policy_params(types),
        }
        if not gone and creds is None and "pre-key" not in types:
            self._bot_rows("put", **params)
            return
        params |= {"gone_types": [key_type for key_type, _ in gone], "gone_ids": [key_id for _, key_id in gone]}
        rewritten = self._bot_rows("set", creds=creds, **params)
        self._warn_rewritten(company, [key_id for (key_id,) in rewritten])

    def load(self, company_id: str) -> AuthState:
        company = ids.canonical_company(company_id)
        creds: bytes | None = None
        keys: dict[str, dict[str, bytes]] = {}
        for key_type, key_id, stored in self._bot_rows("load", company_id=company):
            if key_type is None:
                creds = codec.decode(stored, f"{company} creds")
                continue
            if stored[:1] != codec.PLAIN:
                codec.decode(stored, f"{company} {key_type} {key_id}")
            by_id = keys.get(key_type)
            if by_id is None:
                by_id = keys[key_type] = {}
            by_id[key_id] = stored[1:]
        return AuthState(creds, keys)

    def touch(self, company_id: str, keys: Mapping[str, Iterable[str]]) -> None:
        company = ids.canonical_company(company_id)
        used = sorted((ids.checked_type(key_type), key_id) for key_type in keys for key_id in ids.checked_ids(keys[key_type]))
        if used:
            self._bot_rows(
                "touch",
                company_id=company,
                key_types=[key_type for key_type, _ in used],
                key_ids=[key_id for _, key_id in used],
                **self._policy_params({key_type for key_type, _ in used}),
            )

    def get_creds(self, company_id: str) -> bytes | None:
        company = ids.canonical_company(company_id)
        rows = self._bot_rows("get_creds", company_id=company)
        return codec.decode(rows[0][0], f"{company} creds") if rows else None

    def set_creds(self, company_id: str, creds: bytes) -> None:
        company, value = ids.canonical_company(company_id), codec.encode(ids.checked_value("creds", creds))
        self._bot_rows("set_creds", company_id=company, creds=value)

    def clear(self, company_id: str) -> None:
        self._bot_rows("clear", company_id=ids.canonical_company(company_id))

    def _bot_rows(self, name: str, **params: Any) -> list[Row]:
        self._require_converted()
        return self.link.rows(self._sql[name], {"now": self._now(), **params})

    def _require_converted(self) -> None:
        if self._attached:
            raise SchemaMismatch(
                f"{self.database}: the values are not converted yet: only the watch is attached here. Stop the bot, "
                "run `python run.py migrate`, then let it use this store"
            )

    # Rows with their times.

    def export_rows(self, company_id: str) -> list[KeyRow]:
        self._require_converted()
        company = ids.canonical_company(company_id)
        return [
            KeyRow(
                key_type,
                key_id,
                codec.decode(value, f"{company} {key_type} {key_id}"),
                self._time(created),
                self._time(updated),
                self._optional_time(expires),
                never,
            )
            for key_type, key_id, value, created, updated, expires, never in self._rows(
                "export_rows", company_id=company
            )
        ]

    def restore_rows(self, company_id: str, rows: Iterable[KeyRow], creds: bytes | None = None) -> None:
        self._require_converted()
        company = ids.canonical_company(company_id)
        kept = restorable(rows)
        columns = {
            "key_types": [row.key_type for row in kept],
            "key_ids": [row.key_id for row in kept],
            "values": [codec.encode(row.value) for row in kept],
            "created_at": [row.created_at for row in kept],
            "updated_at": [row.updated_at for row in kept],
            "expires_at": [row.expires_at for row in kept],
            "never_expires": [row.never_expires for row in kept],
        }
        stored_creds = None if creds is None else codec.encode(ids.checked_value("creds", creds))

        def restore(run: Run) -> None:
            run(self._sql["restore_rows"], {"company_id": company, **columns})
            if stored_creds is not None:
                run(self._sql["set_creds"], {"company_id": company, "creds": stored_creds, "now": self._now()})

        self.link.work(restore)

    # The dialect.

    def now(self) -> datetime:
        return self._clock_time() or self._time(self._rows("now")[0][0])

    def _now(self) -> datetime | None:
        return self._clock_time()

    def _time(self, stored: datetime) -> datetime:
        return stored.astimezone(UTC)

    def _stored_time(self, time: datetime) -> datetime:
        return time

    def _list(self, values: Iterable[str]) -> list[str]:
        return list(values)

    def _policy_params(self, key_types: Iterable[str]) -> dict[str, Any]:
        types = sorted(key_types)
        lives = [ttl_and_step(self._policy, key_type) for key_type in types]
        return {"types": types, "ttls_s": [ttl_s for ttl_s, _ in lives], "steps_s": [step_s for _, step_s in lives]}

    def _enforce_expiry(self) -> None:
        self._rows("enforce_expiry")
