"""The Postgres backend: each operation of a bot is one statement, and so one round trip.

Values travel and are kept as opaque bytes: on the diary's 665 keys `jsonb` cost nine times the fetch time.
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
from keystore.sql.dialect import Clock, ttl_and_step
from keystore.sql.link import Row, RowLocked, Run
from keystore.sql.statements import read_statements
from keystore.sql.store import SqlStore
from keystore.tally import Count
from keystore.ttl import Policy

STATEMENTS = read_statements(Path(__file__).with_name("statements.sql"))

LARGE = STATEMENTS["load"], {"company_id": ""}
"""What a link prepares when it opens a connection, and parameters that nothing is found for."""

ENFORCE_BATCH_KEYS = 1_000

CLEAR_PASSES = 3
"""A clear that waited for a set under way doesn't see the keys that this has added; its next pass does. Leaving those
would break the set in two. Each further pass takes another set that began meanwhile."""


class PostgresStore(SqlStore):
    """A store on a migrated Postgres database, or one that only watches a diary-shaped one (`attached`)."""

    link: PostgresLink

    def __init__(self, link: PostgresLink, clock: Clock | None, policy: Policy, *, guard: bool, attached: bool) -> None:
        super().__init__(link, STATEMENTS, clock, policy, guard=guard)
        self._attached = attached

    @property
    def converted(self) -> bool:
        return not self._attached

    # A bot's operations.

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        company, key_type, wanted = (
            ids.canonical_company(company_id),
            ids.checked_type(key_type),
            ids.checked_ids(key_ids),
        )
        if not wanted:
            return {}
        ttl_s, step_s = ttl_and_step(self._policy, key_type)
        params = {
            "company_id": company,
            "key_type": key_type,
            "key_ids": Texts(wanted),
            "ttl_s": ttl_s,
            "step_s": step_s,
        }
        found = self._bot_rows("get", **params)
        if any(raced for _, _, raced, _ in found):
            found = self._bot_rows("get", **params)
        renewed = sum(renewed for _, _, _, renewed in found)
        if renewed:
            self._count(company, [("renewed", key_type, renewed)])
        return self._found(company, key_type, found)

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None, *, epoch: int | None = None) -> None:
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        written, gone = ids.checked_writes(keys)
        if creds is not None:
            creds = codec.encode(ids.checked_value("creds", creds))
        if not written and not gone:
            if creds is not None:
                self._require_allowed(
                    company, epoch, self._bot_rows("set_creds", company_id=company, creds=creds, epoch=epoch)
                )
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
        if not gone and creds is None and "pre-key" not in types:
            happened = self._bot_rows("put", **params)
            self._require_epoch(company, epoch, *happened[0][3:])
            self._count(company, [row[:3] for row in happened])
            return
        params |= {
            "gone_types": Texts(key_type for key_type, _ in gone),
            "gone_ids": Texts(key_id for _, key_id in gone),
        }
        happened = self._bot_rows("set", creds=creds, **params)
        self._require_allowed(company, epoch, happened)
        self._count(company, [row for row in happened if row[0] != "rewritten"])
        self._warn_rewritten(company, [name for event, name, _ in happened if event == "rewritten"])

    def clear(self, company_id: str, *, epoch: int | None = None) -> None:
        self._require_converted()
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        passes = [self._sql["clear"]] + [self._sql["clear_again"]] * (CLEAR_PASSES - 1)
        gone = self.link.run_in_turn(passes, {"company_id": company, "epoch": epoch, "now": self._now()})
        self._require_allowed(company, epoch, gone)
        self._count(company, gone)

    def _require_allowed(self, company: str, epoch: int | None, answer: list[Row]) -> None:
        """Raises LeaseLost when a write answers that its company's lease refused it."""
        for event, holder, current in answer:
            if event == "refused":
                self._require_epoch(company, epoch, holder, current)

    # The watch.

    def _save_counts(self, counts: Mapping[Count, int]) -> None:
        self._rows(
            "add_counts",
            company_ids=[count.company_id for count in counts],
            hours=[count.hour for count in counts],
            key_types=[count.key_type for count in counts],
            events=[count.event for count in counts],
            ns=list(counts.values()),
        )

    def _life_rows(self, types: list[str]) -> list[Row]:
        return self._rows("life_counts", guard=self._guard, **self._policy_params(types))

    def _sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        held = {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch, "ttl_s": ttl_s}
        try:
            rows = self._rows("sweep_companies", run_id=run.run_id, **held, **self._sweep_params(company_ids))
        except RowLocked:
            return super()._sweep_batch(lease, run, company_ids, ttl_s)
        if not rows:
            raise self._lost(lease)
        by_type: dict[str, int] = json.loads(rows[0][0])
        return by_type

    def _swept(self, run: Run, params: Mapping[str, Any]) -> list[tuple[str, int]]:
        return [(key_type, deleted) for key_type, deleted in run(self._sql["sweep_around_locks"], params)]

    def _restore(self, run: Run, company: str, rows: list[KeyRow]) -> None:
        columns = {
            "key_types": Texts(row.key_type for row in rows),
            "key_ids": Texts(row.key_id for row in rows),
            "values": Blobs(codec.encode(row.value) for row in rows),
            "created_at": [row.created_at for row in rows],
            "updated_at": [row.updated_at for row in rows],
            "expires_at": [row.expires_at for row in rows],
            "never_expires": [row.never_expires for row in rows],
        }
        run(self._sql["restore_rows"], {"company_id": company, **columns})

    # The dialect.

    def now(self) -> datetime:
        return self._clock_time() or self._time(self._rows("now")[0][0])

    def _now(self) -> datetime | None:
        return self._clock_time()

    def _time(self, stored: datetime) -> datetime:
        return stored.astimezone(UTC)

    def _stored_time(self, time: datetime) -> datetime:
        return time

    def _list(self, values: Iterable[str]) -> Texts:
        return Texts(values)

    def _policy_params(self, key_types: Iterable[str]) -> dict[str, Any]:
        types = sorted(key_types)
        lives = [ttl_and_step(self._policy, key_type) for key_type in types]
        return {"types": types, "ttls_s": [ttl_s for ttl_s, _ in lives], "steps_s": [step_s for _, step_s in lives]}

    def backfill(self, limit: int) -> dict[str, int]:
        return super().backfill(limit) or self._backfill("backfill_locked", limit)

    def _require_expiry(self, run: Run) -> None:
        run("SET LOCAL lock_timeout = '5s'", {})  # Else every bot queues behind us while a backup reads the table.
        run(self._sql["require_expiry"], {})

    def _enforce_expiry(self) -> None:
        """Adds the rule first, for rows to come, and then has the rows that are there looked through.

        So a key that a writer slips in between can't be missed: it is backfilled, and no other follows it.
        """
        if not self._rows("expiry_required")[0][0]:
            self.link.work(self._require_expiry)
        while self.backfill(ENFORCE_BATCH_KEYS):
            pass
        self._rows("validate_expiry")
