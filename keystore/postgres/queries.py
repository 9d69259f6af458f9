"""The queries of Postgres. Each operation of a bot is one statement, and so one round trip.

Values are sent and stored as bytes. As `jsonb`, the original operator's 665 keys took nine times as long to fetch.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from heapq import nlargest
from operator import itemgetter
from typing import Any

from keystore.postgres.arrays import Blobs, Texts
from keystore.postgres.link import PostgresLink
from keystore.postgres.statements import STATEMENTS
from keystore.records import KeyRow, Lease, SweepRun
from keystore.sealing.queries import Name, Reseal
from keystore.sql.link import Row, Run
from keystore.sql.portions import WHOLE_TABLE, Portion
from keystore.sql.queries import Change, Changed, Clock, Numbers, Outcome, Queries
from keystore.sql.quota import Usage
from keystore.tally import Count

LARGE_QUERY = STATEMENTS["load"], {"company_id": ""}
"""The statement to prepare on every new connection, with parameters that match no row."""

UNCOUNTED = ("rewritten", "keys", "bytes")
"""Rows of a `set` that aren't events to count: the ids of rewritten pre-keys, and the company's use after the write."""

ENFORCE_BATCH_KEYS = 1_000
"""Number of keys that `enforce_expiry` backfills at a time."""

COUNTED_PER_MS = 80
"""A portion has this many keys for each millisecond of the server's `statement_timeout`.

An idle server counts some 300 keys in a millisecond.
"""

FEWEST_AT_A_TIME = 100
"""A portion may have this many keys, however short the `statement_timeout` is."""

CANDIDATES = 10
"""Number of companies whose values `largest_company` measures: those with the most keys."""


class PostgresQueries(Queries):
    """The queries of a Postgres database. An `attached` database is a legacy one, and has the upkeep only."""

    link: PostgresLink
    sql = STATEMENTS

    def __init__(
        self, link: PostgresLink, clock: Clock | None, *, guard: bool, named_types: Iterable[str], attached: bool
    ) -> None:
        super().__init__(link, clock, guard=guard, named_types=named_types)
        self.converted = not attached

    # The operations of a bot.

    def get(self, company: str, key_type: str, key_ids: list[str]) -> tuple[list[Row], int]:
        rows = self.run("get", company_id=company, key_type=key_type, key_ids=Texts(key_ids))
        renewed = 0
        if any(present is not None for _, _, present in rows):
            rows = [row for row in rows if row[2] is not False]
            renewed = sum(row[2] is True for row in rows)
        return rows, renewed

    def set(self, change: Change) -> Changed:
        written, deleted, quota = change.written, change.deleted, change.quota
        sealed = {"data_key": change.data_key, "other_identity": change.other_identity} if change.data_key else {}
        ((parts,),) = self.run(
            "set_sealed" if sealed else "set",
            **sealed,
            company_id=change.company,
            epoch=change.epoch,
            seq=change.seq,
            known_seq=change.acknowledged,
            key_types=Texts([key_type for key_type, _, _ in written]),
            key_ids=Texts([key_id for _, key_id, _ in written]),
            values=Blobs([value for _, _, value in written]),
            gone_types=Texts([key_type for key_type, _ in deleted]),
            gone_ids=Texts([key_id for _, key_id in deleted]),
            creds=change.creds,
            most_keys=quota and quota.keys,
            most_bytes=quota and quota.value_bytes,
        )
        return _changed(parts)

    def set_all(self, changes: list[Change]) -> list[Outcome]:
        written = [key for change in changes for key in change.written]
        deleted = [key for change in changes for key in change.deleted]
        rows = self.run(
            "set_all",
            company_ids=Texts([change.company for change in changes]),
            key_counts=[len(change.written) for change in changes],
            key_types=Texts([key_type for key_type, _, _ in written]),
            key_ids=Texts([key_id for _, key_id, _ in written]),
            values=Blobs([value for _, _, value in written]),
            gone_counts=[len(change.deleted) for change in changes],
            gone_types=Texts([key_type for key_type, _ in deleted]),
            gone_ids=Texts([key_id for _, key_id in deleted]),
            creds=[change.creds for change in changes],
            epochs=[change.epoch for change in changes],
            seqs=[change.seq for change in changes],
            known_seqs=[change.acknowledged for change in changes],
            most_keys=[change.quota and change.quota.keys for change in changes],
            most_bytes=[change.quota and change.quota.value_bytes for change in changes],
            data_keys=[change.data_key for change in changes],
            other_identities=[change.other_identity for change in changes],
        )
        return [
            _changed(parts) if code is None else self.link.error_of(code, message, detail)
            for parts, code, message, detail in rows
        ]

    def touch(self, company: str, used: list[tuple[str, str]]) -> tuple[list[Row], dict[str, list[str]]]:
        key_types, key_ids = (Texts(column) for column in zip(*used, strict=True))
        rows = self.run("touch", company_id=company, key_types=key_types, key_ids=key_ids)
        return [row[:2] for row in rows], {key_type: missing for key_type, _, missing in rows if missing}

    def clear(self, company: str, numbers: Numbers, *, keys_only: bool) -> list[Row]:
        epoch, seq, known_seq = numbers
        return self.run("clear", company_id=company, keys_only=keys_only, epoch=epoch, seq=seq, known_seq=known_seq)

    # Upkeep.

    @property
    def durable(self) -> bool:
        return bool(self.run_upkeep("durable")[0][0])

    def companies_with_logins(self) -> frozenset[str]:
        return frozenset(company for (company,) in self.run_upkeep("companies_with_logins"))

    def columns_in_the_way(self) -> list[Row]:
        return self.run("columns_in_the_way")

    def run_in_turn(self, names: Sequence[str], params: dict[str, Any]) -> list[Row]:
        return self.link.run_in_turn([self.sql[name] for name in names], params)

    def save_counts(self, counts: Mapping[Count, int]) -> None:
        self.run_upkeep(
            "add_counts",
            company_ids=[count.company_id for count in counts],
            hours=[count.hour for count in counts],
            key_types=[count.key_type for count in counts],
            events=[count.event for count in counts],
            ns=list(counts.values()),
        )

    def life_params(self) -> dict[str, Any]:
        return {"guard": self.guard, "named": Texts(self.named_types)}

    def portions(self, run: Run, share: float) -> list[Portion]:
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
        timeout_ms = float(run(self.sql["statement_timeout"], {})[0][0])
        return max(FEWEST_AT_A_TIME, round(share * COUNTED_PER_MS * timeout_ms)) if timeout_ms else None

    def _company_sizes(self, run: Run, most_keys: int) -> Iterator[tuple[str, int]]:
        """Yield every company with its number of keys, sorted as the database sorts them."""
        after: str | None = None
        while rows := run(self.sql["company_sizes"], {"after": after, "limit": most_keys}):
            all_read = sum(keys for _, keys in rows) < most_keys
            if not all_read and len(rows) == 1:  # This company alone fills the limit.
                after = rows[0][0]
                yield after, run(self.sql["company_size"], {"company_id": after})[0][0]
                continue
            complete = rows if all_read else rows[:-1]
            yield from complete
            if all_read:
                return
            after = complete[-1][0]

    @cached_property
    def distributed(self) -> bool:
        return bool(self.run_upkeep("distributed")[0][0])

    def largest_company(self, most_keys: int, most_bytes: int) -> str | None:
        def largest(run: Run) -> str | None:
            at_a_time = self._keys_at_a_time(run)
            if at_a_time is None:
                rows = run(self.sql["largest_company"], {"most_keys": most_keys, "most_bytes": most_bytes})
                return rows[0][0] if rows else None
            for company_id, keys in nlargest(CANDIDATES, self._company_sizes(run, at_a_time), key=itemgetter(1)):
                if keys > most_keys:
                    continue
                ((value_bytes,),) = run(self.sql["company_bytes"], {"company_id": company_id})
                if value_bytes <= most_bytes:
                    return company_id
            return None

        return self.link.work(largest, snapshot=True)

    def due_sessions(self) -> list[Row]:
        return self.run_upkeep("due_sessions", attached=not self.converted)

    def sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        ((by_type,),) = self.run_upkeep(
            "sweep_companies",
            run_id=run.run_id,
            name=lease.name,
            holder=lease.holder,
            epoch=lease.epoch,
            ttl_s=ttl_s,
            company_ids=Texts(company_ids),
            guard=self.guard,
            attached=not self.converted,
            named=Texts(self.named_types),
        )
        if by_type is None:
            raise self.lease_lost(lease)
        return dict(json.loads(by_type))

    def restore(
        self,
        company: str,
        rows: list[KeyRow],
        creds: bytes | None,
        gone: list[tuple[str, str]],
        reason: str,
        data_key: bytes | None,
    ) -> None:
        params: dict[str, Any] = {
            "company_id": company,
            "key_types": Texts(row.key_type for row in rows),
            "key_ids": Texts(row.key_id for row in rows),
            "values": Blobs(row.value for row in rows),
            "gone_types": Texts(key_type for key_type, _ in gone),
            "gone_ids": Texts(key_id for _, key_id in gone),
            "creds": creds,
            "reason": reason,
        }
        for column in ("created_at", "updated_at", "expires_at", "never_expires"):
            params[column] = [getattr(row, column) for row in rows]
        if data_key is None:
            self.run_upkeep("restore_rows", **params)
            return
        params["now"] = self.now_param()

        def restore(run: Run) -> None:
            run(self.sql["hold_data_key"], {"company_id": company, "data_key": data_key})
            run(self.sql["restore_rows"], params)

        self.link.work(restore)

    def empty_trash(self) -> int:
        return int(self.run_upkeep("empty_trash")[0][0])

    def purge(self, run: Run, company: str) -> dict[str, int]:
        ((data_keys,),) = run(self.sql["drop_data_key"], {"company_id": company})
        rows = run(self.sql["purge_company"], {"company_id": company, "now": self.now_param()})
        rows.append(("keystore_data_keys", data_keys))
        run(self.sql["purge_sweep_errors"], {"company_id": company})
        for table in ("displaced", "tokens"):
            ((n,),) = run(self.sql[f"purge_{table}"], {"company_id": company})
            rows.append((f"keystore_{table}", n))
        return dict(rows)

    def backfill(self, limit: int) -> list[Row]:
        return self.run_upkeep("backfill", limit=limit)

    def enforce_expiry(self) -> None:
        """Add the constraint for new rows, and then validate it for the rows that exist.

        A writer may add a key without expiry just before the constraint. That key is backfilled, and the constraint
        refuses any later one.
        """
        if not self.run_upkeep("expiry_required")[0][0]:
            # While a backup reads the table, this waits for it, and every bot would wait behind: so it gives up soon.
            steps = ("SET LOCAL lock_timeout = '5s'", self.sql["require_expiry"])
            self.link.work(lambda run: [run(step, {}) for step in steps])
        while self.backfill(ENFORCE_BATCH_KEYS):
            pass
        self.run_upkeep("validate_expiry")

    # Sealed values.

    def stored_values(self, company: str, names: Sequence[Name]) -> dict[Name, bytes]:
        key_types, key_ids = _columns(names)
        rows = self.run("stored_values", company_id=company, key_types=key_types, key_ids=key_ids)
        return {(key_type, key_id): value for key_type, key_id, value in rows}

    def reseal(self, company: str, data_key: bytes, changes: Sequence[Reseal]) -> int:
        key_types, key_ids = _columns([change.name for change in changes])
        params: dict[str, Any] = {
            "company_id": company,
            "data_key": data_key,
            "key_types": key_types,
            "key_ids": key_ids,
            "former": Blobs(change.former for change in changes),
            "sealed": Blobs(change.sealed for change in changes),
        }
        if changes[0].trashed_at is None:
            ((changed,),) = self.run_upkeep("reseal", **params)
        else:
            ((changed,),) = self.run_upkeep("reseal_trash", times=[change.trashed_at for change in changes], **params)
        return int(changed)

    # Values.

    def now(self) -> datetime:
        return self.clock_time() or self.time(self.run_upkeep("now")[0][0])

    def now_param(self) -> datetime | None:
        return self.clock_time()

    def time_param(self, time: datetime) -> datetime:
        return time

    def list_param(self, values: Iterable[str]) -> Texts:
        return Texts(values)

    def texts(self, stored: list[str] | None) -> tuple[str, ...]:
        return tuple(stored or ())

    def time(self, stored: datetime) -> datetime:
        return stored.astimezone(UTC)


def _columns(names: Sequence[Name]) -> tuple[Texts, Texts]:
    """Return the types and the ids of names as two lists."""
    return Texts(key_type for key_type, _ in names), Texts(key_id for _, key_id in names)


def _changed(parts: list[str]) -> Changed:
    """Return the outcome of a write from the list of its events (`keystore_write`)."""
    events = [(event, name, int(n)) for event, name, n in zip(parts[::3], parts[1::3], parts[2::3], strict=True)]
    used = {event: n for event, _, n in events if event in ("keys", "bytes")}
    return Changed(
        events=[row for row in events if row[0] not in UNCOUNTED],
        rewritten=[key_id for event, key_id, _ in events if event == "rewritten"],
        used=Usage(used["keys"], used["bytes"]) if used else None,
    )
