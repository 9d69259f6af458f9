"""The upkeep operations of a SQL backend: counts, notes, leases, sweeps, backfill, and rows with their times.

A backend adds the steps in which the two databases differ most.
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, replace
from datetime import datetime
from typing import Any

from keystore import ids
from keystore.errors import CorruptValue, InvalidInput, SchemaMismatch
from keystore.ids import OTHER_TYPES
from keystore.invocation import command
from keystore.records import (
    Burst,
    Census,
    CompanyLease,
    CompanyOrder,
    CompanyPage,
    CompanySummary,
    DueCompany,
    DueSessions,
    HistoryEntry,
    HourCount,
    KeyName,
    KeyRow,
    Lease,
    LifeCount,
    Note,
    SweepRun,
    TypeCount,
)
from keystore.sealing.queries import CREDS
from keystore.sql.base import SqlBase
from keystore.sql.link import Row, Run
from keystore.sql.portions import summed_by_type
from keystore.sql.times import day_of
from keystore.tally import EVERYBODY, hour_of
from keystore.upkeep import Upkeep
from keystore.values import codec

MOST_ON_A_PAGE = 1_000

PROBE = "probe/"
"""The beginning of the names of the notes that `probe_write` writes and deletes."""
MOST_KEYS_LOADED, MOST_BYTES_LOADED = 20_000, 16 * 2**20
"""Limits of the company that the service itself loads, to time it."""

MOST_OTHERS_LISTED = 20
"""Number of types, besides the named ones, that a census lists by name."""


class SqlUpkeep(SqlBase, Upkeep):
    """The upkeep half of a store on a SQL database."""

    # The store itself.

    def probe_write(self) -> None:
        names = ["remember", "forget"]
        if self.converted:
            names += ["probe_keys", "probe_creds"]
        # A name of its own: two probes at a time don't wait for each other's row.
        note = {"name": f"{PROBE}{secrets.token_hex(8)}", "document": "", "now": self.queries.now_param()}
        self.queries.run_in_turn(names, note)
        for table, column in self.queries.columns_in_the_way() if self.converted else ():
            raise SchemaMismatch(
                f"{self.database}: {table}.{column} must not be null and has no default, so every write fails; "
                "give it a default, or let it be null"
            )

    # Counts.

    def census(self) -> Census:
        names = ("census", "count_companies", "census_totals")
        params = {"guard": self.queries.guard, "attached": not self.converted}
        rows, companies, ((now, paired_at, rewritten, size_bytes),) = self.queries.in_portions(names, params)
        types = self._listed(
            TypeCount(key_type, total, with_expiry, total - with_expiry, expired, guarded, created_24h, created_7d)
            for key_type, (total, with_expiry, expired, guarded, created_24h, created_7d) in summed_by_type(rows)
        )
        activity = [self.queries.time(at) for at in (paired_at, *(row[7] for row in rows)) if at is not None]
        summed = ("total", "expired", "guarded", "without_expiry", "created_24h", "created_7d")
        sums = {name: sum(getattr(count, name) for count in types) for name in summed}
        return Census(
            **sums,
            taken_at=self.queries.time(now),
            active=sums["total"] - sums["expired"] - sums["guarded"],
            companies=sum(count for (count,) in companies),
            last_activity_at=max(activity, default=None),
            oldest_created_at=min((self.queries.time(row[8]) for row in rows if row[8] is not None), default=None),
            pre_keys_rewritten_7d=rewritten,
            size_bytes=size_bytes,
            by_type=types,
        )

    def _listed(self, types: Iterable[TypeCount]) -> tuple[TypeCount, ...]:
        """Return the counts of the named types and of the 20 largest others, and the sum of the rest as `other`."""
        by_type = {count.key_type: count for count in types}
        others = by_type.keys() - self.queries.named_types - {OTHER_TYPES}
        smaller = sorted(others, key=lambda key_type: (-by_type[key_type].total, key_type))[MOST_OTHERS_LISTED:]
        if smaller:
            summed = [by_type.pop(key_type) for key_type in {*smaller, OTHER_TYPES} & by_type.keys()]
            sums = [sum(numbers) for numbers in zip(*(astuple(count)[1:] for count in summed), strict=True)]
            by_type[OTHER_TYPES] = TypeCount(OTHER_TYPES, *sums)
        return tuple(by_type[key_type] for key_type in sorted(by_type))

    def companies(self) -> list[str]:
        return sorted(company_id for (company_id,) in self.queries.run_upkeep("companies"))

    def company_page(
        self, search: str = "", limit: int = 50, offset: int = 0, order: CompanyOrder = "id"
    ) -> CompanyPage:
        if search:
            ids.checked_name("search", search)
        if not 1 <= limit <= MOST_ON_A_PAGE or not 0 <= offset < 2**31:
            raise InvalidInput(f"limit, offset: a page has 1 to {MOST_ON_A_PAGE} companies, from offset 0 on")
        if order == "id" and not self.queries.distributed:
            rows = self.queries.run_upkeep("company_page", search=search, limit=limit, offset=offset)
        else:
            rows = self.queries.run_upkeep(
                "company_page_ranked", search=search, limit=limit, offset=offset, order=order
            )
        companies = []
        for _, company_id, keys, active_at, holder, epoch, expires_at in rows:
            if company_id is not None:
                lease = holder and CompanyLease(company_id, holder, epoch, self.queries.time(expires_at))
                companies.append(CompanySummary(company_id, keys, self.queries.optional_time(active_at), lease))
        return CompanyPage(rows[0][0], tuple(companies))

    def largest_company(self) -> str | None:
        if not self.converted:
            return None
        return self.queries.largest_company(MOST_KEYS_LOADED, MOST_BYTES_LOADED)

    def key_names(self, key_types: Iterable[str]) -> Iterator[KeyName]:
        rows = self.queries.run_upkeep("key_names", types=self.queries.list_param(key_types))
        for company_id, key_type, key_id, updated_at in rows:
            yield KeyName(company_id, key_type, key_id, self.queries.time(updated_at))

    def counts(self, since: datetime) -> list[HourCount]:
        totals: Counter[tuple[Any, str, Any]] = Counter()
        for hour, key_type, event, keys in self._run_counters("counts", since):
            totals[hour, self.queries.counted_as(key_type), event] += keys
        return [HourCount(self.queries.time(hour), key_type, event, n) for (hour, key_type, event), n in totals.items()]

    def bursts(self, since: datetime) -> list[Burst]:
        rows = self._run_counters("bursts", since)
        return [Burst(company_id, self.queries.time(hour), key_type, keys) for company_id, hour, key_type, keys in rows]

    def _run_counters(self, name: str, since: datetime) -> list[Row]:
        # Otherwise the query itself raises the reason. In a forked child the tally's locks may never be released.
        if self.link.usable:
            self._tally.save()
        return self.queries.run_upkeep(name, since=self.queries.time_param(hour_of(since)))

    def life_counts(self) -> list[LifeCount]:
        if not self.converted:
            return []
        (rows,) = self.queries.in_portions(["life_counts"], self.queries.life_params())
        lives: Counter[tuple[str, int, int | None]] = Counter()
        for *life, keys in rows:
            lives[tuple(life)] += keys
        return [
            LifeCount(key_type, bool(lasting), None if gone_on is None else day_of(gone_on), keys)
            for (key_type, lasting, gone_on), keys in lives.items()
        ]

    def low_on_pre_keys(self, below: int) -> dict[str, int]:
        (rows,) = self.queries.in_portions(["low_on_pre_keys"], {"below": below})
        return {company_id: pre_keys for company_id, pre_keys in rows if pre_keys < below}

    # Notes and series.

    def remember(self, name: str, document: str | None) -> None:
        self.queries.run_upkeep("forget" if document is None else "remember", name=name, document=document)

    def recall(self, name: str) -> Note | None:
        rows = self.queries.run_upkeep("recall", name=name)
        return Note(rows[0][0], self.queries.time(rows[0][1])) if rows else None

    def notes(self, prefix: str) -> dict[str, Note]:
        rows = self.queries.run_upkeep("notes", prefix=prefix)
        return {name: Note(document, self.queries.time(updated_at)) for name, document, updated_at in rows}

    def add_history(self, kind: str, at: datetime, document: str) -> None:
        self.queries.run_upkeep("add_history", kind=kind, at=self.queries.time_param(at), document=document)

    def history(self, kind: str, since: datetime) -> list[HistoryEntry]:
        rows = self.queries.run_upkeep("history", kind=kind, since=self.queries.time_param(since))
        return [HistoryEntry(self.queries.time(at), document) for at, document in rows]

    def thin_history(self, kind: str, daily_before: datetime, before: datetime) -> None:
        times = {"daily_before": self.queries.time_param(daily_before), "before": self.queries.time_param(before)}
        self.queries.run_upkeep("thin_history", kind=kind, **times)

    # Leases.

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        rows = self.queries.run_upkeep("acquire_lease", name=name, holder=holder, ttl_s=ttl_s)
        return Lease(name, holder, rows[0][0], self.queries.time(rows[0][1])) if rows else None

    def release_lease(self, lease: Lease) -> None:
        self.queries.run_upkeep("release_lease", name=lease.name, holder=lease.holder, epoch=lease.epoch)

    # Sweeping.

    def start_sweep(self, sweeper: str) -> SweepRun:
        ((run_id, started_at),) = self.queries.run_upkeep("start_sweep", sweeper=sweeper)
        return SweepRun(run_id, sweeper, self.queries.time(started_at), None, 0.0, 0, {}, None)

    def due_companies(self) -> list[DueCompany]:
        return [DueCompany(company_id, keys) for company_id, keys in sorted(self.queries.run_upkeep("due_companies"))]

    def due_sessions(self) -> list[DueSessions]:
        return [DueSessions(*row) for row in sorted(self.queries.due_sessions())]

    def sweep_companies(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> SweepRun:
        by_type = self.queries.sweep_batch(lease, run, company_ids, ttl_s)
        more = {key_type: keys - run.by_type.get(key_type, 0) for key_type, keys in by_type.items()}
        self._count_events(EVERYBODY, [("swept", key_type, keys) for key_type, keys in more.items()])
        return replace(run, deleted=sum(by_type.values()), by_type=by_type)

    def finish_sweep(self, run: SweepRun, took_ms: float, error: str | None) -> SweepRun:
        rows = self.queries.run_upkeep("finish_sweep", run_id=run.run_id, took_ms=took_ms, error=error)
        self.queries.run_upkeep("forget_sweeps")
        self.queries.run_upkeep("forget_counters")
        finished_at = self.queries.time(rows[0][0]) if rows else None
        return replace(run, finished_at=finished_at, took_ms=took_ms, error=error)

    def sweep_runs(self, limit: int) -> list[SweepRun]:
        return [
            SweepRun(
                run,
                sweeper,
                self.queries.time(began),
                self.queries.optional_time(ended),
                ms,
                deleted,
                json.loads(types),
                error,
            )
            for run, sweeper, began, ended, ms, deleted, types, error in self.queries.run_upkeep(
                "sweep_runs", limit=limit
            )
        ]

    # Keys without expiry.

    def backfill(self, limit: int) -> dict[str, int]:
        return self._by_type(self.queries.backfill(limit))

    @property
    def expiry_enforced(self) -> bool:
        return bool(self.queries.run_upkeep("expiry_enforced")[0][0])

    def enforce_expiry(self) -> None:
        if not self.converted:
            raise InvalidInput(
                f"{self.database}: not while a bot writes to the tables directly: every key that it writes without an "
                f"expiry would be lost. Stop the bot, run `{command('migrate')}`, and enforce it then"
            )
        if self.expiry_enforced:
            return
        if self.queries.run_upkeep("lacks_expiry"):
            raise InvalidInput(
                f"{self.database}: there are keys without expiry; run `{command('backfill')}` before enforcing it"
            )
        self.queries.enforce_expiry()

    # Rows with their times.

    def move_key(self, key: KeyName, key_type: str, key_id: str) -> bool:
        params = {
            **vars(key),
            "updated_at": self.queries.time_param(key.updated_at),
            "to_type": key_type,
            "to_id": key_id,
        }

        def move(run: Run) -> bool:
            if not run(self.queries.sql["hold_key"], params):
                return False
            moved_value, stored = None, b""
            if self.converted:
                ((stored,),) = run(self.queries.sql["key_value"], params)
            if stored.startswith(codec.SEALED_BY_BOT):
                return False  # Under another name it wouldn't open any more, and only its bot can seal it again.
            if self._sealer is not None:
                before, after = (key.key_type, key.key_id), (key_type, key_id)
                moved_value = self._sealer.moved(key.company_id, before, after, stored)
            self.queries.drop_older(run, params)
            if not run(self.queries.sql["move_key"], params):
                return False
            if moved_value is not None:
                run(self.queries.sql["write_moved_value"], {**params, "value": moved_value})
            return True

        try:
            return self.link.work(move)
        except CorruptValue as error:
            self._quarantine.put(key.company_id, (key.key_type, key.key_id), error)
            return False

    def export_rows(self, company_id: str) -> list[KeyRow]:
        self._require_converted()
        company = ids.canonical_company(company_id)
        rows = self.queries.run_upkeep("export_rows", company_id=company)
        values = self._readable(company, (row[:3] for row in rows))
        return [
            KeyRow(
                key_type,
                key_id,
                values[key_type, key_id],
                self.queries.time(created),
                self.queries.time(updated),
                self.queries.optional_time(expires),
                bool(never),
            )
            for key_type, key_id, _, created, updated, expires, never in rows
            if (key_type, key_id) in values
        ]

    def restore_rows(
        self,
        company_id: str,
        rows: Iterable[KeyRow],
        creds: bytes | None = None,
        removed: Iterable[tuple[str, str]] = (),
        reason: str = "import",
    ) -> None:
        self._require_converted()
        company, checked_rows = ids.canonical_company(company_id), restorable(rows)
        checked_creds = None if creds is None else ids.checked_value("creds", creds)
        gone = sorted(
            (ids.checked_name("key_type", key_type), ids.checked_name("key_id", key_id)) for key_type, key_id in removed
        )
        why = ids.checked_name("reason", reason)
        values = [(row.key_type, row.key_id, row.value) for row in checked_rows]
        if checked_creds is not None:
            values.append((*CREDS, checked_creds))

        def write(forms: list[bytes], data_key: bytes | None) -> None:
            stored_creds = None if checked_creds is None else forms[-1]
            stored = [replace(row, value=form) for row, form in zip(checked_rows, forms, strict=False)]
            with self._refused(company, None):
                self.queries.restore(company, stored, stored_creds, gone, why, data_key)

        if self._sealer is None:
            write([codec.encode(value) for *_, value in values], None)
            return
        names = [(key_type, key_id) for key_type, key_id, _ in values]
        self._write_sealed(self._sealer, company, values, names, lambda sealed: write(sealed.stored, sealed.data_key))


def restorable(rows: Iterable[KeyRow]) -> list[KeyRow]:
    """Return the rows, checked as in a `set`, in locking order. Of two rows with the same name the last one counts."""
    by_name: dict[tuple[str, str], KeyRow] = {}
    for row in rows:
        ids.checked_writes({row.key_type: {row.key_id: row.value}})
        ids.check_times(row)
        by_name[row.key_type, row.key_id] = row
    return [by_name[name] for name in sorted(by_name)]
