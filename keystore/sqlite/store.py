"""The SQLite backend: one file, for local work and small bots. It keeps the whole contract.

The database's clock is this machine's clock. So the time comes from Python, and `keystore.ttl` computes the expiries.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from keystore import codec, ids, ttl
from keystore.records import KeyRow, Keys
from keystore.sql.dialect import read_statements, ttl_and_step
from keystore.sql.link import Row, Run
from keystore.sql.store import SqlStore
from keystore.sqlite.link import SqliteLink
from keystore.tally import Count

STATEMENTS = read_statements(Path(__file__).with_name("statements.sql"))

PRE_KEY = "pre-key"

NEVER_US = 2**63 - 1
"""The stored expiry of a key that never expires."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteStore(SqlStore):
    """A store on a migrated SQLite file."""

    link: SqliteLink
    _sql = STATEMENTS

    # The operations of a bot.

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        company, key_type = ids.canonical_company(company_id), ids.checked_name("key_type", key_type)
        wanted = ids.checked_ids(key_ids)
        if not wanted:
            return {}
        params = {
            "company_id": company,
            "key_type": key_type,
            "key_ids": self._list_param(wanted),
            "due_before": self._lives([key_type])[0][2],
        }
        rows = self._run_for_bot("get", **params)
        if due := [key_id for key_id, _, is_due in rows if is_due]:
            self.touch(company, {key_type: due})
            rows = self._run_for_bot("get", **params)
        return self._values(company, key_type, rows)

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None, *, epoch: int | None = None) -> None:
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        written, deleted = ids.checked_writes(keys)
        stored_creds = None if creds is None else codec.encode(ids.checked_value("creds", creds))
        if not written and not deleted and stored_creds is None:
            return
        now = self._now_param()
        expiry = {key_type: expires_at for key_type, expires_at, _ in self._lives({row[0] for row in written})}
        rows = [
            (company, key_type, key_id, codec.encode(value), now, now, expiry[key_type])
            for key_type, key_id, value in written
        ]
        pre_keys = {key_id: codec.encode(value) for key_type, key_id, value in written if key_type == PRE_KEY}

        def write(run: Run) -> tuple[list[str], list[tuple[str, str, int]]]:
            self._require_lease(run, company, epoch, now)
            before = dict(self._count_existing(run, company, [name for *name, _ in written if name[0] != PRE_KEY]))
            events = [("deleted", *row) for row in self._count_existing(run, company, deleted)]
            if deleted:
                run(self._sql["delete"], [(company, key_type, key_id) for key_type, key_id in deleted])
            # The stored pre-keys are unused: a bot deletes one when it is used.
            params = {"company_id": company, "key_ids": self._list_param(pre_keys)}
            unused: dict[str, bytes] = dict(run(self._sql["unused_pre_keys"], params)) if pre_keys else {}
            rewritten = [key_id for key_id, value in unused.items() if value != pre_keys[key_id]]
            if rewritten:
                run(self._sql["count_rewritten"], {"company_id": company, "now": now, "n": len(rewritten)})
            if rows:
                run(self._sql["put"], rows)
            if stored_creds is not None:
                run(self._sql["write_creds"], {"company_id": company, "creds": stored_creds, "now": now})
            before[PRE_KEY] = len(unused)
            for key_type, keys in Counter(row[0] for row in written).items():
                existing = before.get(key_type, 0)
                events += [("created", key_type, keys - existing), ("renewed", key_type, existing)]
            return rewritten, events

        rewritten, events = self.link.work(write)
        self._count_events(company, events)
        self._warn_rewritten(company, rewritten)

    def _count_existing(self, run: Run, company: str, names: Sequence[Sequence[str]]) -> list[Row]:
        """Return `(key_type, keys)`: how many of these `(key_type, key_id)` are stored."""
        return run(self._sql["count_existing"], {"company_id": company, "names": json.dumps(names)}) if names else []

    def clear(self, company_id: str, *, epoch: int | None = None) -> None:
        company, epoch, now = ids.canonical_company(company_id), ids.checked_epoch(epoch), self._now_param()

        def clear(run: Run) -> list[Row]:
            self._require_lease(run, company, epoch, now)
            deleted = run(self._sql["clear_keys"], {"company_id": company})
            run(self._sql["clear_creds"], {"company_id": company})
            return deleted

        self._count_rows(company, "cleared", self.link.work(clear))

    def _require_lease(self, run: Run, company: str, epoch: int | None, now: int) -> None:
        """Raise LeaseLost, inside the write's transaction, unless the live lease allows a write with this epoch."""
        rows = run(self._sql["company_lease"], {"company_id": company, "now": now})
        self._require_epoch(company, epoch, *(rows[0] if rows else (None, None)))

    # Upkeep.

    def _run_in_turn(self, statements: list[str], params: dict[str, Any]) -> list[Row]:
        return self.link.work(lambda run: [row for statement in statements for row in run(statement, params)])

    def _save_counts(self, counts: Mapping[Count, int]) -> None:
        rows = [
            (count.company_id, self._time_param(count.hour), count.key_type, count.event, keys)
            for count, keys in counts.items()
        ]
        self.link.work(lambda run: run(self._sql["add_count"], rows))

    def _run_life_counts(self, types: list[str]) -> list[Row]:
        lives = [(key_type, *ttl_and_step(self._policy, key_type)) for key_type in types]
        firsts = [
            (key_type, None if ttl_s == ttl.NEVER else round(ttl_s * 1_000_000), round(step_s * 1_000_000))
            for key_type, ttl_s, step_s in lives
        ]
        return self._run_upkeep("life_counts", guard=self._guard, firsts=json.dumps(firsts, ensure_ascii=False))

    def _by_type(self, rows: list[Row]) -> dict[str, int]:
        return dict(Counter(key_type for (key_type,) in rows))

    def _enforce_expiry(self) -> None:
        steps = ("enforce_create", "enforce_copy", "enforce_drop", "enforce_rename", "enforce_index")
        self.link.work(lambda run: [run(self._sql[step], {}) for step in steps])

    def _restore(self, run: Run, company: str, rows: list[KeyRow]) -> None:
        params = [
            (
                *(company, row.key_type, row.key_id, codec.encode(row.value)),
                *(self._time_param(row.created_at), self._time_param(row.updated_at)),
                NEVER_US if row.never_expires else row.expires_at and self._time_param(row.expires_at),
            )
            for row in rows
        ]
        run(self._sql["restore_row"], params)

    # Values.

    def now(self) -> datetime:
        self.link.require_open()
        return self._moment()

    def _moment(self) -> datetime:
        return self._clock_time() or datetime.now(UTC)

    def _now_param(self) -> int:
        return self._time_param(self._moment())

    def _time(self, stored: int) -> datetime:
        return _EPOCH + stored * _MICROSECOND

    def _time_param(self, time: datetime) -> int:
        return (time - _EPOCH) // _MICROSECOND

    def _list_param(self, values: Iterable[str]) -> str:
        return json.dumps(list(values), ensure_ascii=False)

    def _lives(self, key_types: Iterable[str]) -> list[tuple[str, int, int]]:
        """Return `(key_type, expires_at, due_before)`: a use renews an expiry before `due_before` to `expires_at`."""
        now = self._moment()
        return [
            (
                key_type,
                self._expiry_param(ttl.expires_at(self._policy, key_type, now)),
                self._expiry_param(ttl.renewed_before(self._policy, key_type, now)),
            )
            for key_type in key_types
        ]

    def _expiry_param(self, time: datetime | None) -> int:
        return NEVER_US if time is None else self._time_param(time)

    def _policy_params(self, key_types: Iterable[str]) -> dict[str, Any]:
        return {"policy": json.dumps(self._lives(key_types), ensure_ascii=False)}

    def _run_upkeep(self, name: str, /, **params: Any) -> list[Row]:
        return super()._run_upkeep(name, never=NEVER_US, **params)
