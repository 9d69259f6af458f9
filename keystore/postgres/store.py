"""The Postgres backend. Each operation of a bot is one statement, and so one round trip.

Values travel and are stored as opaque bytes: as `jsonb`, the original operator's 665 keys took nine times as long to
fetch.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from heapq import nlargest
from operator import itemgetter
from typing import Any

from keystore import ids
from keystore.errors import KeystoreError, SchemaMismatch
from keystore.postgres.arrays import Blobs, Texts
from keystore.postgres.link import PostgresLink
from keystore.postgres.statements import STATEMENTS
from keystore.records import DueSessions, KeyRow, Lease, Quota, SweepRun
from keystore.sql.dialect import Clock
from keystore.sql.link import RefusalError, Row, Run
from keystore.sql.portions import WHOLE_TABLE, Portion
from keystore.sql.quota import Usage, too_many_types
from keystore.sql.store import Change, SqlStore
from keystore.sql.upkeep import MOST_BYTES_LOADED, MOST_KEYS_LOADED
from keystore.tally import Count
from keystore.ttl import Policy
from keystore.values import codec

LARGE_QUERY = STATEMENTS["load"], {"company_id": ""}
"""The statement to prepare on every new connection, with parameters that match no row."""

UNCOUNTED = ("rewritten", "keys", "bytes")
"""Events of a `set` that aren't counted: the ids of rewritten pre-keys, and the company's use after the write."""

ENFORCE_BATCH_KEYS = 1_000

COUNTED_PER_MS = 80
"""Keys in a portion for each millisecond of the server's `statement_timeout`: an idle server counts some 300 in it."""

FEWEST_AT_A_TIME = 100
"""Keys counted by one statement at least, however short the `statement_timeout` is."""

CANDIDATES = 10
"""Number of companies, the largest first, that `largest_company` looks at."""


class PostgresStore(SqlStore):
    """A store on a migrated Postgres database, or the upkeep of a legacy one (`attached`)."""

    link: PostgresLink
    _sql = STATEMENTS

    def __init__(
        self, link: PostgresLink, clock: Clock | None, policy: Policy, quota: Quota, *, guard: bool, attached: bool
    ) -> None:
        super().__init__(link, clock, policy, quota, guard=guard)
        self._attached = attached

    @property
    def converted(self) -> bool:
        return not self._attached

    @property
    def durable(self) -> bool:
        return bool(self._run_upkeep("durable")[0][0])

    # The operations of a bot.

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        company, key_type = ids.canonical_company(company_id), ids.checked_name("key_type", key_type)
        wanted = ids.checked_ids(key_ids)
        if not wanted:
            return {}
        rows = self._run_for_bot("get", company_id=company, key_type=key_type, key_ids=Texts(wanted))
        if any(present is not None for _, _, present in rows):
            rows = [row for row in rows if row[2] is not False]
            self._count_events(company, [("renewed", key_type, sum(row[2] is True for row in rows))])
        return self._values(company, key_type, rows)

    def _set(self, change: Change) -> tuple[list[tuple[Any, str, int]], list[str]]:
        company, written, deleted, quota = change.company, change.written, change.deleted, self._allowances.quota
        try:
            events = self._run_for_bot(
                "set",
                company_id=company,
                epoch=change.epoch,
                seq=change.seq,
                key_types=Texts([key_type for key_type, _, _ in written]),
                key_ids=Texts([key_id for _, key_id, _ in written]),
                values=Blobs([codec.encode(value) for _, _, value in written]),
                gone_types=Texts([key_type for key_type, _ in deleted]),
                gone_ids=Texts([key_id for _, key_id in deleted]),
                creds=change.creds,
                most_keys=quota.keys if change.measured else None,
                most_bytes=quota.value_bytes if change.measured else None,
            )
        except RefusalError as refused:
            raise self._refusal(company, change.epoch, refused) from None
        used = {event: n for event, _, n in events if event in ("keys", "bytes")}
        if used:
            self._allowances.grant(company, Usage(used["keys"], used["bytes"]))
        rewritten = [key_id for event, key_id, _ in events if event == "rewritten"]
        return [row for row in events if row[0] not in UNCOUNTED], rewritten

    def _touch(self, company: str, used: list[tuple[str, str]]) -> tuple[dict[str, int], dict[str, list[str]]]:
        key_types, key_ids = (Texts(names) for names in zip(*used, strict=True))
        rows = self._run_for_bot("touch", company_id=company, key_types=key_types, key_ids=key_ids)
        missing = {key_type: key_ids for key_type, _, key_ids in rows if key_ids}
        return self._by_type([row[:2] for row in rows]), missing

    def _clear(self, company: str, epoch: int | None, seq: int | None) -> list[Row]:
        try:
            return self._run_for_bot("clear", company_id=company, epoch=epoch, seq=seq)
        except RefusalError as refused:
            raise self._refusal(company, epoch, refused) from None

    def _refusal(self, company: str, epoch: int | None, refused: RefusalError) -> KeystoreError:
        """Return the error for a write that a function in the database refused."""
        facts = refused.details
        match refused.reason:
            case "KS001":
                return self._wrong_epoch(company, epoch, facts["holder"], facts["epoch"])
            case "KS002":
                before, after = Usage(facts["keys"], facts["bytes"]), Usage(facts["keys_after"], facts["bytes_after"])
                return self._allowances.exceeded(company, before, after)
            case "KS003":
                return too_many_types(company, facts["types"])
        return refused

    # Upkeep.

    def probe_write(self) -> None:
        super().probe_write()
        if self.converted:
            for table, column in self._run("columns_in_the_way"):
                raise SchemaMismatch(
                    f"{self.database}: {table}.{column} must not be null and has no default, so every write fails; "
                    "give it a default, or let it be null"
                )

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

    def _life_params(self) -> dict[str, Any]:
        return {"guard": self._guard, "named": Texts(self._named_types)}

    def _portions(self, run: Run, share: float) -> list[Portion]:
        most_keys = self._keys_at_a_time(run, share)
        if most_keys is None:
            return [WHOLE_TABLE]
        portions: list[Portion] = []
        after = last = None
        keys_in_portion = 0
        for company_id, keys in self._company_sizes(run, most_keys):
            if keys_in_portion and keys_in_portion + keys > most_keys:
                portions.append({"after": after, "upto": last})
                after, keys_in_portion = last, 0
            last = company_id
            keys_in_portion += keys
        return [*portions, {"after": after, "upto": None}]

    def _keys_at_a_time(self, run: Run, share: float = 1.0) -> int | None:
        """Return how many keys a statement counts safely within the server's `statement_timeout`; None without one."""
        timeout_ms = float(run(self._sql["statement_timeout"], {})[0][0])
        return max(FEWEST_AT_A_TIME, round(share * COUNTED_PER_MS * timeout_ms)) if timeout_ms else None

    def _company_sizes(self, run: Run, most_keys: int) -> Iterator[tuple[str, int]]:
        """Yield every company with its number of keys, sorted as the database sorts them."""
        after: str | None = None
        while rows := run(self._sql["company_sizes"], {"after": after, "limit": most_keys}):
            all_read = sum(keys for _, keys in rows) < most_keys
            if not all_read and len(rows) == 1:  # A company with more keys than were asked for.
                after = rows[0][0]
                yield after, run(self._sql["company_size"], {"company_id": after})[0][0]
                continue
            complete = rows if all_read else rows[:-1]
            yield from complete
            if all_read:
                return
            after = complete[-1][0]

    @cached_property
    def _distributed(self) -> bool:
        return bool(self._run_upkeep("distributed")[0][0])

    def largest_company(self) -> str | None:
        if not self.converted:
            return None

        def largest(run: Run) -> str | None:
            most_keys = self._keys_at_a_time(run)
            if most_keys is None:
                rows = run(
                    self._sql["largest_company"], {"most_keys": MOST_KEYS_LOADED, "most_bytes": MOST_BYTES_LOADED}
                )
                return rows[0][0] if rows else None
            for company_id, keys in nlargest(CANDIDATES, self._company_sizes(run, most_keys), key=itemgetter(1)):
                if keys > MOST_KEYS_LOADED:
                    continue
                ((value_bytes,),) = run(self._sql["company_bytes"], {"company_id": company_id})
                if value_bytes <= MOST_BYTES_LOADED:
                    return company_id
            return None

        return self.link.work(largest, snapshot=True)

    def due_sessions(self) -> list[DueSessions]:
        return [DueSessions(*row) for row in sorted(self._run_upkeep("due_sessions", attached=self._attached))]

    def _sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        params = {"run_id": run.run_id, **self._lease_params(lease, ttl_s), **self._sweep_params(company_ids)}
        ((by_type,),) = self._run_upkeep("sweep_companies", **params)
        if by_type is None:
            raise self._lease_lost(lease)
        return dict(json.loads(by_type))

    def _restore(
        self, company: str, rows: list[KeyRow], creds: bytes | None, gone: list[tuple[str, str]], reason: str
    ) -> None:
        params: dict[str, Any] = {
            "company_id": company,
            "key_types": Texts(row.key_type for row in rows),
            "key_ids": Texts(row.key_id for row in rows),
            "values": Blobs(codec.encode(row.value) for row in rows),
            "gone_types": Texts(key_type for key_type, _ in gone),
            "gone_ids": Texts(key_id for _, key_id in gone),
            "creds": creds,
            "reason": reason,
        }
        for column in ("created_at", "updated_at", "expires_at", "never_expires"):
            params[column] = [getattr(row, column) for row in rows]
        try:
            self._run_upkeep("restore_rows", **params)
        except RefusalError as refused:
            raise self._refusal(company, None, refused) from None

    def _empty_trash(self) -> int:
        return int(self._run_upkeep("empty_trash")[0][0])

    def purge(self, company_id: str) -> dict[str, int]:
        try:
            return super().purge(company_id)
        except RefusalError as refused:
            raise self._refusal(ids.canonical_company(company_id), None, refused) from None

    def _purge(self, run: Run, company: str) -> dict[str, int]:
        rows = run(self._sql["purge_company"], {"company_id": company, "now": self._now_param()})
        run(self._sql["purge_sweep_errors"], {"company_id": company})
        for table in ("displaced", "tokens"):
            ((n,),) = run(self._sql[f"purge_{table}"], {"company_id": company})
            rows.append((f"keystore_{table}", n))
        return dict(rows)

    def backfill(self, limit: int) -> dict[str, int]:
        return self._by_type(self._run_upkeep("backfill", limit=limit))

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

    def _time(self, stored: datetime) -> datetime:
        return stored.astimezone(UTC)
