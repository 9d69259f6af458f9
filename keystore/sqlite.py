"""The embedded backend: one SQLite file, for local work and small bots. It is complete: every promise holds here too.

The database's clock is this machine's, so the time is taken here and expiries are worked out by `keystore.ttl`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from keystore import codec, ids, ttl
from keystore.link import Row, Run
from keystore.sql_store import Clock, SqlStore
from keystore.sqlite_link import SqliteLink
from keystore.statements import read_statements
from keystore.store import KeyRow, Keys
from keystore.ttl import Policy

STATEMENTS = read_statements(Path(__file__).with_suffix(".sql"))

NEVER_US = 2**63 - 1
"""The stored time of never."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteStore(SqlStore):
    """A store on a migrated SQLite file."""

    link: SqliteLink

    def __init__(self, link: SqliteLink, clock: Clock | None, policy: Policy, *, guard: bool) -> None:
        super().__init__(link, STATEMENTS, clock, policy, guard=guard)

    # A bot's operations.

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        company, key_type, wanted = (
            ids.canonical_company(company_id),
            ids.checked_type(key_type),
            ids.checked_ids(key_ids),
        )
        if not wanted:
            return {}
        params = {
            "company_id": company,
            "key_type": key_type,
            "key_ids": self._list(wanted),
            "due_before": self._lives([key_type])[0][2],
        }
        found = self._bot_rows("get", **params)
        due = [key_id for key_id, _, is_due in found if is_due]
        if due:
            self.touch(company, {key_type: due})
            found = self._bot_rows("get", **params)
        return self._found(company, key_type, found)

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        company = ids.canonical_company(company_id)
        written, gone = ids.checked_writes(keys)
        stored_creds = None if creds is None else codec.encode(ids.checked_value("creds", creds))
        if not written and not gone and stored_creds is None:
            return
        now = self._now()
        expiry = {key_type: expires_at for key_type, expires_at, _ in self._lives({row[0] for row in written})}
        rows = [
            (company, key_type, key_id, codec.encode(value), now, now, expiry[key_type])
            for key_type, key_id, value in written
        ]
        pre_keys = {key_id: codec.encode(value) for key_type, key_id, value in written if key_type == "pre-key"}

        def write(run: Run) -> list[str]:
            if gone:
                run(self._sql["delete"], [(company, key_type, key_id) for key_type, key_id in gone])
            rewritten = self._rewritten(run, company, pre_keys) if pre_keys else []
            if rewritten:
                run(self._sql["count_rewritten"], {"company_id": company, "now": now, "n": len(rewritten)})
            if rows:
                run(self._sql["put"], rows)
            if stored_creds is not None:
                run(self._sql["set_creds"], {"company_id": company, "creds": stored_creds, "now": now})
            return rewritten

        self._warn_rewritten(company, self.link.work(write))

    def _rewritten(self, run: Run, company: str, pre_keys: Mapping[str, bytes]) -> list[str]:
        """The ids of pre-keys that are there with another value."""
        there = run(self._sql["unused_pre_keys"], {"company_id": company, "key_ids": self._list(pre_keys)})
        return [key_id for key_id, value in there if value != pre_keys[key_id]]

    def clear(self, company_id: str) -> None:
        params = {"company_id": ids.canonical_company(company_id)}

        def clear(run: Run) -> None:
            run(self._sql["clear_keys"], params)
            run(self._sql["clear_creds"], params)

        self.link.work(clear)

    # The watch.

    def _swept(self, run: Run, params: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        return Counter(key_type for (key_type,) in run(self._sql["sweep_companies"], params)).items()

    def _backfilled(self, rows: list[Row]) -> dict[str, int]:
        return dict(Counter(key_type for (key_type,) in rows))

    def _enforce_expiry(self) -> None:
        def enforce(run: Run) -> None:
            for step in ("enforce_create", "enforce_copy", "enforce_drop", "enforce_rename", "enforce_index"):
                run(self._sql[step], {})

        self.link.work(enforce)

    def _restore(self, run: Run, company: str, rows: list[KeyRow]) -> None:
        run(
            self._sql["restore_row"],
            [
                (
                    company,
                    row.key_type,
                    row.key_id,
                    codec.encode(row.value),
                    self._stored_time(row.created_at),
                    self._stored_time(row.updated_at),
                    NEVER_US if row.never_expires else row.expires_at and self._stored_time(row.expires_at),
                )
                for row in rows
            ],
        )

    # The dialect.

    def now(self) -> datetime:
        self.link.require_open()
        return self._moment()

    def _moment(self) -> datetime:
        return self._clock_time() or datetime.now(UTC)

    def _now(self) -> int:
        return self._stored_time(self._moment())

    def _time(self, stored: int) -> datetime:
        return _EPOCH + stored * _MICROSECOND

    def _stored_time(self, time: datetime) -> int:
        return (time - _EPOCH) // _MICROSECOND

    def _list(self, values: Iterable[str]) -> str:
        return json.dumps(list(values), ensure_ascii=False)

    def _lives(self, key_types: Iterable[str]) -> list[tuple[str, int, int]]:
        """For each type: its name, the expiry that a use gives it now, and before which expiry a use renews it."""
        now = self._moment()
        lives = []
        for key_type in key_types:
            expires_at = ttl.expires_at(self._policy, key_type, now)
            if expires_at is None:
                lives.append((key_type, NEVER_US, NEVER_US))
            else:
                due_before = now + timedelta(seconds=self._policy.ttl_s(key_type) / 2)
                lives.append((key_type, self._stored_time(expires_at), self._stored_time(due_before)))
        return lives

    def _policy_params(self, key_types: Iterable[str]) -> dict[str, Any]:
        return {"policy": json.dumps(self._lives(key_types), ensure_ascii=False)}

    def _rows(self, name: str, /, **params: Any) -> list[Row]:
        return super()._rows(name, never=NEVER_US, **params)
