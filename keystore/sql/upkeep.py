"""The upkeep operations of a SQL backend: counts, notes, leases, sweeps, backfill, and rows with their times.

A backend adds the steps in which the two databases differ most.
"""

import json
import secrets
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, replace
from datetime import datetime
from typing import Any

from keystore import ids
from keystore.errors import InvalidInput, LeaseLost
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
from keystore.sql.link import Row, Run
from keystore.sql.portions import CountedInPortions, summed_by_type
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


class SqlUpkeep(CountedInPortions, Upkeep):
    """The upkeep half of a store on a SQL database."""

    # The store itself.

    def probe_write(self) -> None:
        names = ["remember", "forget"]
        if self.converted:
            names += ["probe_keys", "probe_creds"]
        # A name of its own: two probes at a time don't wait for each other's row.
        note = {"name": f"{PROBE}{secrets.token_hex(8)}", "document": "", "now": self._now_param()}
        self._run_in_turn([self._sql[name] for name in names], note)

    @abstractmethod
    def _run_in_turn(self, statements: list[str], params: dict[str, Any]) -> list[Row]:
        """Run several statements in one transaction with the timeout of a bot's call, and return the rows of all."""

    # Counts.

    def census(self) -> Census:
        names = ("census", "count_companies", "census_totals")
        params = {"guard": self._guard, "attached": not self.converted}
        rows, companies, ((now, paired_at, rewritten, size_bytes),) = self._in_portions(names, params)
        types = self._listed(
            TypeCount(key_type, total, with_expiry, total - with_expiry, expired, guarded, created_24h, created_7d)
            for key_type, (total, with_expiry, expired, guarded, created_24h, created_7d) in summed_by_type(rows)
        )
        activity = [self._time(at) for at in (paired_at, *(row[7] for row in rows)) if at is not None]
        summed = ("total", "expired", "guarded", "without_expiry", "created_24h", "created_7d")
        sums = {name: sum(getattr(count, name) for count in types) for name in summed}
        return Census(
            **sums,
            taken_at=self._time(now),
            active=sums["total"] - sums["expired"] - sums["guarded"],
            companies=sum(count for (count,) in companies),
            last_activity_at=max(activity, default=None),
            oldest_created_at=min((self._time(row[8]) for row in rows if row[8] is not None), default=None),
            pre_keys_rewritten_7d=rewritten,
            size_bytes=size_bytes,
            by_type=types,
        )

    def _listed(self, types: Iterable[TypeCount]) -> tuple[TypeCount, ...]:
        """Return the counts of the named types and of the 20 largest others, and the sum of the rest as `other`."""
        by_type = {count.key_type: count for count in types}
        others = by_type.keys() - self._named_types - {OTHER_TYPES}
        smaller = sorted(others, key=lambda key_type: (-by_type[key_type].total, key_type))[MOST_OTHERS_LISTED:]
        if smaller:
            summed = [by_type.pop(key_type) for key_type in {*smaller, OTHER_TYPES} & by_type.keys()]
            sums = [sum(numbers) for numbers in zip(*(astuple(count)[1:] for count in summed), strict=True)]
            by_type[OTHER_TYPES] = TypeCount(OTHER_TYPES, *sums)
        return tuple(by_type[key_type] for key_type in sorted(by_type))

    def companies(self) -> list[str]:
        return sorted(company_id for (company_id,) in self._run_upkeep("companies"))

    def company_page(
        self, search: str = "", limit: int = 50, offset: int = 0, order: CompanyOrder = "id"
    ) -> CompanyPage:
        if search:
            ids.checked_name("search", search)
        if not 1 <= limit <= MOST_ON_A_PAGE or not 0 <= offset < 2**31:
            raise InvalidInput(f"limit, offset: a page has 1 to {MOST_ON_A_PAGE} companies, from offset 0 on")
        if order == "id" and not self._distributed:
            rows = self._run_upkeep("company_page", search=search, limit=limit, offset=offset)
        else:
            rows = self._run_upkeep("company_page_ranked", search=search, limit=limit, offset=offset, order=order)
        companies = []
        for _, company_id, keys, active_at, holder, epoch, expires_at in rows:
            if company_id is not None:
                lease = holder and CompanyLease(company_id, holder, epoch, self._time(expires_at))
                companies.append(CompanySummary(company_id, keys, self._optional_time(active_at), lease))
        return CompanyPage(rows[0][0], tuple(companies))

    @property
    def _distributed(self) -> bool:
        """True when the tables are spread over several machines, which have no index of all companies."""
        return False

    def largest_company(self) -> str | None:
        if not self.converted:
            return None
        rows = self._run_upkeep("largest_company", most_keys=MOST_KEYS_LOADED, most_bytes=MOST_BYTES_LOADED)
        return rows[0][0] if rows else None

    def key_names(self, key_types: Iterable[str]) -> Iterator[KeyName]:
        rows = self._run_upkeep("key_names", types=self._list_param(key_types))
        for company_id, key_type, key_id, updated_at in rows:
            yield KeyName(company_id, key_type, key_id, self._time(updated_at))

    def counts(self, since: datetime) -> list[HourCount]:
        totals: Counter[tuple[Any, str, Any]] = Counter()
        for hour, key_type, event, keys in self._run_counters("counts", since):
            totals[hour, self._counted_as(key_type), event] += keys
        return [HourCount(self._time(hour), key_type, event, n) for (hour, key_type, event), n in totals.items()]

    def bursts(self, since: datetime) -> list[Burst]:
        rows = self._run_counters("bursts", since)
        return [Burst(company_id, self._time(hour), key_type, keys) for company_id, hour, key_type, keys in rows]

    def _run_counters(self, name: str, since: datetime) -> list[Row]:
        # Otherwise the query itself raises the reason. In a forked child the tally's locks may never be released.
        if self.link.usable:
            self._tally.save()
        return self._run_upkeep(name, since=self._time_param(hour_of(since)))

    def life_counts(self) -> list[LifeCount]:
        if not self.converted:
            return []
        (rows,) = self._in_portions(["life_counts"], self._life_params())
        lives: Counter[tuple[str, int, int | None]] = Counter()
        for *life, keys in rows:
            lives[tuple(life)] += keys
        return [
            LifeCount(key_type, bool(lasting), None if gone_on is None else day_of(gone_on), keys)
            for (key_type, lasting, gone_on), keys in lives.items()
        ]

    @abstractmethod
    def _life_params(self) -> dict[str, Any]:
        """Return the parameters of `life_counts`.

        Its rows are `(key_type, lasting, gone_on, keys)`, with `gone_on` in days since 1970 or None.
        """

    def low_on_pre_keys(self, below: int) -> dict[str, int]:
        (rows,) = self._in_portions(["low_on_pre_keys"], {"below": below})
        return {company_id: pre_keys for company_id, pre_keys in rows if pre_keys < below}

    # Notes and series.

    def remember(self, name: str, document: str | None) -> None:
        self._run_upkeep("forget" if document is None else "remember", name=name, document=document)

    def recall(self, name: str) -> Note | None:
        rows = self._run_upkeep("recall", name=name)
        return Note(rows[0][0], self._time(rows[0][1])) if rows else None

    def notes(self, prefix: str) -> dict[str, Note]:
        rows = self._run_upkeep("notes", prefix=prefix)
        return {name: Note(document, self._time(updated_at)) for name, document, updated_at in rows}

    def add_history(self, kind: str, at: datetime, document: str) -> None:
        self._run_upkeep("add_history", kind=kind, at=self._time_param(at), document=document)

    def history(self, kind: str, since: datetime) -> list[HistoryEntry]:
        rows = self._run_upkeep("history", kind=kind, since=self._time_param(since))
        return [HistoryEntry(self._time(at), document) for at, document in rows]

    def thin_history(self, kind: str, daily_before: datetime, before: datetime) -> None:
        times = {"daily_before": self._time_param(daily_before), "before": self._time_param(before)}
        self._run_upkeep("thin_history", kind=kind, **times)

    # Leases.

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        rows = self._run_upkeep("acquire_lease", name=name, holder=holder, ttl_s=ttl_s)
        return Lease(name, holder, rows[0][0], self._time(rows[0][1])) if rows else None

    def release_lease(self, lease: Lease) -> None:
        self._run_upkeep("release_lease", name=lease.name, holder=lease.holder, epoch=lease.epoch)

    def _lease_params(self, lease: Lease, ttl_s: float) -> dict[str, Any]:
        return {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch, "ttl_s": ttl_s}

    def _lease_lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(f"{self.database}: the lease {lease.name!r} of {lease.holder} has passed to another holder")

    # Sweeping.

    def start_sweep(self, sweeper: str) -> SweepRun:
        ((run_id, started_at),) = self._run_upkeep("start_sweep", sweeper=sweeper)
        return SweepRun(run_id, sweeper, self._time(started_at), None, 0.0, 0, {}, None)

    def due_companies(self) -> list[DueCompany]:
        return [DueCompany(company_id, keys) for company_id, keys in sorted(self._run_upkeep("due_companies"))]

    def sweep_companies(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> SweepRun:
        by_type = self._sweep_batch(lease, run, company_ids, ttl_s)
        more = {key_type: keys - run.by_type.get(key_type, 0) for key_type, keys in by_type.items()}
        self._count_events(EVERYBODY, [("swept", key_type, keys) for key_type, keys in more.items()])
        return replace(run, deleted=sum(by_type.values()), by_type=by_type)

    @abstractmethod
    def _sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        """Sweep under the lease, and return the recorded deletions of the whole run by type. Raises LeaseLost.

        The deletions are added to the record and not to the caller's run, so that a batch which is repeated because its
        answer got lost counts once. The lease is renewed from the end of a long batch, not from its start.
        """

    def _sweep_params(self, company_ids: list[str]) -> dict[str, Any]:
        return {
            "company_ids": self._list_param(company_ids),
            "guard": self._guard,
            "attached": not self.converted,
            "named": self._list_param(self._named_types),
            "now": self._now_param(),
        }

    def finish_sweep(self, run: SweepRun, took_ms: float, error: str | None) -> SweepRun:
        rows = self._run_upkeep("finish_sweep", run_id=run.run_id, took_ms=took_ms, error=error)
        self._run_upkeep("forget_sweeps")
        self._run_upkeep("forget_counters")
        finished_at = self._time(rows[0][0]) if rows else None
        return replace(run, finished_at=finished_at, took_ms=took_ms, error=error)

    def sweep_runs(self, limit: int) -> list[SweepRun]:
        return [
            SweepRun(run, sweeper, self._time(began), self._optional_time(ended), ms, deleted, json.loads(types), error)
            for run, sweeper, began, ended, ms, deleted, types, error in self._run_upkeep("sweep_runs", limit=limit)
        ]

    # Keys without expiry.

    def _by_type(self, rows: list[Row]) -> dict[str, int]:
        """Return the number of keys of each type, from the rows `(key_type, keys)` of a sweep or a backfill."""
        by_type: Counter[str] = Counter()
        for key_type, keys in rows:
            by_type[self._counted_as(key_type)] += keys
        return dict(by_type)

    @property
    def expiry_enforced(self) -> bool:
        return bool(self._run_upkeep("expiry_enforced")[0][0])

    def enforce_expiry(self) -> None:
        if not self.converted:
            raise InvalidInput(
                f"{self.database}: not while a bot writes to the tables directly: every key that it writes without an "
                f"expiry would be lost. Stop the bot, run `{command('migrate')}`, and enforce it then"
            )
        if self.expiry_enforced:
            return
        if self._run_upkeep("lacks_expiry"):
            raise InvalidInput(
                f"{self.database}: there are keys without expiry; run `{command('backfill')}` before enforcing it"
            )
        self._enforce_expiry()

    @abstractmethod
    def _enforce_expiry(self) -> None:
        """Add the constraint to a table that has no keys without expiry."""

    # Rows with their times.

    def move_key(self, key: KeyName, key_type: str, key_id: str) -> bool:
        params = {**vars(key), "updated_at": self._time_param(key.updated_at), "to_type": key_type, "to_id": key_id}

        def move(run: Run) -> bool:
            if not run(self._sql["hold_key"], params):
                return False
            self._drop_older(run, params)
            return bool(run(self._sql["move_key"], params))

        return self.link.work(move)

    def _drop_older(self, run: Run, params: Mapping[str, Any]) -> None:
        """Put the key at the destination into the trash if it is older than the one that moves there."""
        run(self._sql["drop_older"], {**params, "now": self._now_param()})

    def export_rows(self, company_id: str) -> list[KeyRow]:
        self._require_converted()
        company = ids.canonical_company(company_id)
        rows = self._run_upkeep("export_rows", company_id=company)
        return [
            KeyRow(
                key_type,
                key_id,
                codec.decode(value, f"{company} {key_type} {key_id}"),
                self._time(created),
                self._time(updated),
                self._optional_time(expires),
                bool(never),
            )
            for key_type, key_id, value, created, updated, expires, never in rows
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
        stored_creds = None if creds is None else codec.encode(ids.checked_value("creds", creds))
        gone = sorted(
            (ids.checked_name("key_type", key_type), ids.checked_name("key_id", key_id)) for key_type, key_id in removed
        )
        self._restore(company, checked_rows, stored_creds, gone, ids.checked_name("reason", reason))

    @abstractmethod
    def _restore(
        self, company: str, rows: list[KeyRow], creds: bytes | None, gone: list[tuple[str, str]], reason: str
    ) -> None:
        """Write rows with the times they carry, and stored creds, and delete keys. Raises LeaseLost."""


def restorable(rows: Iterable[KeyRow]) -> list[KeyRow]:
    """Return the rows, checked as in a `set`, in locking order. Of two rows with the same name the last one counts."""
    by_name: dict[tuple[str, str], KeyRow] = {}
    for row in rows:
        ids.checked_writes({row.key_type: {row.key_id: row.value}})
        ids.check_times(row)
        by_name[row.key_type, row.key_id] = row
    return [by_name[name] for name in sorted(by_name)]
