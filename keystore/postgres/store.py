"""The Postgres backend. Each operation of a bot is one statement, and so one round trip.

Values travel and are stored as opaque bytes: as `jsonb`, the original operator's 665 keys took nine times as long to
fetch.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keystore import codec, ids
from keystore.postgres.arrays import Blobs, Texts
from keystore.postgres.link import PostgresLink
from keystore.records import KeyRow, Keys, Lease, SweepRun
from keystore.sql.dialect import Clock, read_statements, ttl_and_step
from keystore.sql.link import Row, RowLocked, Run
from keystore.sql.store import SqlStore
from keystore.tally import Count
from keystore.ttl import Policy

STATEMENTS = read_statements(Path(__file__).with_name("statements.sql"))

LARGE_QUERY = STATEMENTS["load"], {"company_id": ""}
"""The statement to prepare on every new connection, with parameters that match no row."""

ENFORCE_BATCH_KEYS = 1_000

CLEAR_PASSES = 3
"""Deletions in one clear. A clear that waited for a concurrent set doesn't see the keys which that set added, so the
next pass deletes them; leaving them would break the set in two. Each further pass covers one more such set."""


class PostgresStore(SqlStore):
    """A store on a migrated Postgres database, or the upkeep of a legacy one (`attached`)."""

    link: PostgresLink
    _sql = STATEMENTS

    def __init__(self, link: PostgresLink, clock: Clock | None, policy: Policy, *, guard: bool, attached: bool) -> None:
        super().__init__(link, clock, policy, guard=guard)
        self._attached = attached

    @property
    def converted(self) -> bool:
        return not self._attached

    # The operations of a bot.

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        company, key_type = ids.canonical_company(company_id), ids.checked_name("key_type", key_type)
        wanted = ids.checked_ids(key_ids)
        if not wanted:
            return {}
        ttl_s, step_s = ttl_and_step(self._policy, key_type)
        params: dict[str, Any] = {"company_id": company, "key_type": key_type, "key_ids": Texts(wanted)}
        params |= {"ttl_s": ttl_s, "step_s": step_s}
        rows = self._run_for_bot("get", **params)
        if any(raced for _, _, raced, _ in rows):
            rows = self._run_for_bot("get", **params)
        if renewed := sum(row[3] for row in rows):
            self._count_events(company, [("renewed", key_type, renewed)])
        return self._values(company, key_type, rows)

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None, *, epoch: int | None = None) -> None:
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        written, deleted = ids.checked_writes(keys)
        if creds is not None:
            creds = codec.encode(ids.checked_value("creds", creds))
        if not written and not deleted:
            if creds is not None:
                rows = self._run_for_bot("set_creds", company_id=company, creds=creds, epoch=epoch)
                self._require_allowed(company, epoch, rows)
            return
        types = {key_type for key_type, _, _ in written}
        params = {
            "company_id": company,
            "epoch": epoch,
            "key_types": Texts(key_type for key_type, _, _ in written),
            "key_ids": Texts(key_id for _, key_id, _ in written),
            "values": Blobs(codec.encode(value) for _, _, value in written),
            **self._policy_params(types),
        }
        if not deleted and creds is None and "pre-key" not in types:
            events = self._run_for_bot("put", **params)
            self._require_epoch(company, epoch, *events[0][3:])
            self._count_events(company, [row[:3] for row in events])
            return
        params |= {
            "gone_types": Texts(key_type for key_type, _ in deleted),
            "gone_ids": Texts(key_id for _, key_id in deleted),
        }
        events = self._run_for_bot("set", creds=creds, **params)
        self._require_allowed(company, epoch, events)
        self._count_events(company, [row for row in events if row[0] != "rewritten"])
        self._warn_rewritten(company, [key_id for event, key_id, _ in events if event == "rewritten"])

    def clear(self, company_id: str, *, epoch: int | None = None) -> None:
        self._require_converted()
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        passes = [self._sql["clear"]] + [self._sql["clear_again"]] * (CLEAR_PASSES - 1)
        events = self.link.run_in_turn(passes, {"company_id": company, "epoch": epoch, "now": self._now_param()})
        self._require_allowed(company, epoch, events)
        self._count_events(company, events)

    def _require_allowed(self, company: str, epoch: int | None, events: list[Row]) -> None:
        """Raise LeaseLost when a write returns that its company's lease refused it."""
        for event, holder, live_epoch in events:
            if event == "refused":
                self._require_epoch(company, epoch, holder, live_epoch)

    # Upkeep.

    def _run_in_turn(self, statements: list[str], params: dict[str, Any]) -> list[Row]:
        return self.link.run_in_turn(statements, params)

    def _save_counts(self, counts: Mapping[Count, int]) -> None:
        self._run_upkeep(
            "add_counts",
            company_ids=[count.company_id for count in counts],
            hours=[count.hour for count in counts],
            key_types=[count.key_type for count in counts],
            events=[count.event for count in counts],
            ns=list(counts.values()),
        )

    def _run_life_counts(self, types: list[str]) -> list[Row]:
        return self._run_upkeep("life_counts", guard=self._guard, **self._policy_params(types))

    def _sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        params = {"run_id": run.run_id, **self._lease_params(lease, ttl_s), **self._sweep_params(company_ids)}
        try:
            rows = self._run_upkeep("sweep_companies", **params)
        except RowLocked:
            return super()._sweep_batch(lease, run, company_ids, ttl_s)
        if not rows:
            raise self._lease_lost(lease)
        return dict(json.loads(rows[0][0]))

    def _by_type(self, rows: list[Row]) -> dict[str, int]:
        return dict(rows)

    def _restore(self, run: Run, company: str, rows: list[KeyRow]) -> None:
        params = {
            "company_id": company,
            "key_types": Texts(row.key_type for row in rows),
            "key_ids": Texts(row.key_id for row in rows),
            "values": Blobs(codec.encode(row.value) for row in rows),
        }
        for column in ("created_at", "updated_at", "expires_at", "never_expires"):
            params[column] = [getattr(row, column) for row in rows]
        run(self._sql["restore_rows"], params)

    def backfill(self, limit: int) -> dict[str, int]:
        return super().backfill(limit) or self._backfill("backfill_locked", limit)

    def _enforce_expiry(self) -> None:
        """Add the constraint for new rows first, and then validate it for those that exist.

        A key without expiry that a writer adds just before the constraint is backfilled, and no other can follow it.
        """
        if not self._run_upkeep("expiry_required")[0][0]:
            # With a lock timeout, else every bot queues behind this while a backup reads the table.
            steps = ("SET LOCAL lock_timeout = '5s'", self._sql["require_expiry"])
            self.link.work(lambda run: [run(step, {}) for step in steps])
        while self.backfill(ENFORCE_BATCH_KEYS):
            pass
        self._run_upkeep("validate_expiry")

    # Values.

    def now(self) -> datetime:
        return self._clock_time() or self._time(self._run_upkeep("now")[0][0])

    def _now_param(self) -> datetime | None:
        return self._clock_time()

    def _time_param(self, time: datetime) -> datetime:
        return time

    def _list_param(self, values: Iterable[str]) -> Texts:
        return Texts(values)

    def _policy_params(self, key_types: Iterable[str]) -> dict[str, Any]:
        types = sorted(key_types)
        lives = [ttl_and_step(self._policy, key_type) for key_type in types]
        return {"types": types, "ttls_s": [ttl_s for ttl_s, _ in lives], "steps_s": [step_s for _, step_s in lives]}

    def _time(self, stored: datetime) -> datetime:
        return stored.astimezone(UTC)
