"""What the two SQL backends share: most of the contract, as named statements with the same parameters.

A backend adds its link, its `.sql` file, how its values look (times, lists, the policy), and the operations in which
the two databases differ most.
"""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog

from keystore import codec, ids, ttl
from keystore.errors import InvalidInput, LeaseLost, SchemaMismatch
from keystore.link import UPKEEP_TIMEOUT_S, Link, Row, Run
from keystore.store import (
    AuthState,
    Burst,
    Census,
    DueCompany,
    HistoryEntry,
    HourCount,
    KeyName,
    KeyRow,
    Lease,
    LifeCount,
    Note,
    Store,
    SweepRun,
    TypeCount,
)
from keystore.tally import EVERYBODY, Count, Tally, hour_of
from keystore.ttl import Policy

Clock = Callable[[], datetime]

log = structlog.get_logger()


class SqlStore(Store):
    """A store on a SQL database."""

    def __init__(
        self, link: Link, statements: Mapping[str, str], clock: Clock | None, policy: Policy, *, guard: bool
    ) -> None:
        self.link = link
        self._sql = statements
        self._clock = clock
        self._policy = policy
        self._guard = guard
        self._tally = Tally(self._save_counts)

    @property
    def database(self) -> str:
        return self.link.name

    @property
    def converted(self) -> bool:
        return True

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def guards(self) -> bool:
        return self._guard

    def close(self) -> None:
        if self.link.usable:
            self._tally.close()
        self.link.close()

    # What differs between the dialects' values.

    @abstractmethod
    def _now(self) -> Any:
        """The clock's time as a parameter."""

    @abstractmethod
    def _time(self, stored: Any) -> datetime:
        """A time from the database."""

    @abstractmethod
    def _policy_params(self, key_types: Iterable[str]) -> dict[str, Any]:
        """What the policy says of these types, as parameters."""

    @abstractmethod
    def _stored_time(self, time: datetime) -> Any:
        """A time as a parameter."""

    @abstractmethod
    def _list(self, values: Iterable[str]) -> Any:
        """Several strings as one parameter."""

    def _require_converted(self) -> None:
        """Raises SchemaMismatch where values can't be read or written yet."""
        if not self.converted:
            raise SchemaMismatch(
                f"{self.database}: the values are not converted yet: only the watch is attached here. Stop the bot, "
                "run `python run.py migrate`, then let it use this store"
            )

    def _optional_time(self, stored: Any) -> datetime | None:
        return None if stored is None else self._time(stored)

    def _clock_time(self) -> datetime | None:
        """The time of the store's own clock, None when the database's decides."""
        if self._clock is None:
            return None
        now = self._clock()
        if now.tzinfo is None:
            raise InvalidInput("clock: it returned a time without a time zone; return an aware UTC datetime")
        return now.astimezone(UTC)

    def _rows(self, name: str, /, **params: Any) -> list[Row]:
        return self.link.rows(self._sql[name], {"now": self._now(), **params}, UPKEEP_TIMEOUT_S)

    def _bot_rows(self, name: str, /, **params: Any) -> list[Row]:
        self._require_converted()
        return self.link.rows(self._sql[name], {"now": self._now(), **params})

    # A bot's operations.

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
        used = sorted(
            (ids.checked_type(key_type), key_id) for key_type in keys for key_id in ids.checked_ids(keys[key_type])
        )
        if used:
            renewed = self._bot_rows(
                "touch",
                company_id=company,
                key_types=self._list(key_type for key_type, _ in used),
                key_ids=self._list(key_id for _, key_id in used),
                **self._policy_params({key_type for key_type, _ in used}),
            )
            self._count_each(company, "renewed", renewed)

    def get_creds(self, company_id: str) -> bytes | None:
        company = ids.canonical_company(company_id)
        rows = self._bot_rows("get_creds", company_id=company)
        return codec.decode(rows[0][0], f"{company} creds") if rows else None

    def set_creds(self, company_id: str, creds: bytes) -> None:
        company, value = ids.canonical_company(company_id), codec.encode(ids.checked_value("creds", creds))
        self._bot_rows("set_creds", company_id=company, creds=value)

    def _found(self, company: str, key_type: str, rows: Iterable[Row]) -> dict[str, bytes]:
        """What a get answers, from rows that begin with id and stored value."""
        return {row[0]: codec.decode(row[1], f"{company} {key_type} {row[0]}") for row in rows}

    def _count(self, company_id: str, happened: Iterable[tuple[Any, str, int]]) -> None:
        """Counts `(event, key_type, keys)` by the hour."""
        self._tally.add(company_id, self._clock_time() or datetime.now(UTC), happened)

    def _count_each(self, company_id: str, event: str, rows: Iterable[Row]) -> None:
        """Counts one key for each row, whose first field is its type."""
        self._count(company_id, [(event, key_type, keys) for key_type, keys in Counter(row[0] for row in rows).items()])

    def _warn_rewritten(self, company_id: str, pre_key_ids: list[str]) -> None:
        """Says that unused pre-keys got another value: whoever was handed the old one can't be read."""
        if pre_key_ids:
            log.warning(
                "pre_key_rewritten", company_id=company_id, count=len(pre_key_ids), key_ids=sorted(pre_key_ids)[:10]
            )

    # Counting.

    def census(self) -> Census:
        params = {"now": self._now(), "guard": self._guard, "attached": not self.converted}

        def count(run: Run) -> tuple[list[Row], Row]:
            return run(self._sql["census"], params), run(self._sql["census_totals"], params)[0]

        by_type, (now, companies, paired_at, rewritten, size_bytes) = self.link.work(count, snapshot=True)
        types = tuple(
            TypeCount(
                key_type=key_type,
                total=total,
                with_expiry=with_expiry,
                without_expiry=total - with_expiry,
                expired=expired,
                guarded=guarded,
                created_24h=created_24h,
                created_7d=created_7d,
            )
            for key_type, total, with_expiry, expired, guarded, created_24h, created_7d, _, _ in by_type
        )
        activity = [self._time(at) for at in (paired_at, *(row[7] for row in by_type)) if at is not None]
        total = sum(count.total for count in types)
        expired = sum(count.expired for count in types)
        guarded = sum(count.guarded for count in types)
        return Census(
            taken_at=self._time(now),
            total=total,
            active=total - expired - guarded,
            expired=expired,
            guarded=guarded,
            without_expiry=sum(count.without_expiry for count in types),
            companies=companies,
            last_activity_at=max(activity, default=None),
            oldest_created_at=min((self._time(row[8]) for row in by_type if row[8] is not None), default=None),
            created_24h=sum(count.created_24h for count in types),
            created_7d=sum(count.created_7d for count in types),
            pre_keys_rewritten_7d=rewritten,
            size_bytes=size_bytes,
            by_type=types,
        )

    def companies(self) -> list[str]:
        return sorted(row[0] for row in self._rows("companies"))

    def largest_company(self) -> str | None:
        rows = self._rows("largest_company")
        return rows[0][0] if rows else None

    def key_names(self, key_types: Iterable[str]) -> Iterator[KeyName]:
        for company_id, key_type, key_id, updated_at in self._rows("key_names", types=self._list(key_types)):
            yield KeyName(company_id, key_type, key_id, self._time(updated_at))

    def counts(self, since: datetime) -> list[HourCount]:
        self._save_tally()
        return [
            HourCount(self._time(hour), key_type, event, keys)
            for hour, key_type, event, keys in self._rows("counts", since=self._stored_time(hour_of(since)))
        ]

    def bursts(self, since: datetime) -> list[Burst]:
        self._save_tally()
        return [
            Burst(company_id, self._time(hour), key_type, keys)
            for company_id, hour, key_type, keys in self._rows("bursts", since=self._stored_time(hour_of(since)))
        ]

    def _save_tally(self) -> None:
        if self.link.usable:  # Else the question itself says why not; a forked child may never get the tally's locks.
            self._tally.save()

    @abstractmethod
    def _save_counts(self, counts: Mapping[Count, int]) -> None:
        """Adds counts to those in the database."""

    def life_counts(self) -> list[LifeCount]:
        if not self.converted:
            return []
        types = [row[0] for row in self._rows("key_types")]
        return [
            LifeCount(key_type, bool(lasting), None if gone_on is None else _EPOCH + timedelta(days=gone_on), keys)
            for key_type, lasting, gone_on, keys in self._life_rows(types)
        ]

    @abstractmethod
    def _life_rows(self, types: list[str]) -> list[Row]:
        """`(key_type, lasting, gone_on, keys)`, `gone_on` in days since 1970 or None."""

    def low_on_pre_keys(self, below: int) -> dict[str, int]:
        return {company_id: there for company_id, there in self._rows("low_on_pre_keys", below=below) if there < below}

    # What the watch remembers.

    def remember(self, name: str, document: str | None) -> None:
        if document is None:
            self._rows("forget", name=name)
        else:
            self._rows("remember", name=name, document=document)

    def recall(self, name: str) -> Note | None:
        rows = self._rows("recall", name=name)
        return Note(rows[0][0], self._time(rows[0][1])) if rows else None

    def notes(self, prefix: str) -> dict[str, Note]:
        return {
            name: Note(document, self._time(updated_at))
            for name, document, updated_at in self._rows("notes", prefix=prefix)
        }

    def add_history(self, kind: str, at: datetime, document: str) -> None:
        self._rows("add_history", kind=kind, at=self._stored_time(at), document=document)

    def history(self, kind: str, since: datetime) -> list[HistoryEntry]:
        rows = self._rows("history", kind=kind, since=self._stored_time(since))
        return [HistoryEntry(self._time(at), document) for at, document in rows]

    def thin_history(self, kind: str, daily_before: datetime, before: datetime) -> None:
        self._rows(
            "thin_history",
            kind=kind,
            daily_before=self._stored_time(daily_before),
            before=self._stored_time(before),
        )

    # Leases.

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        rows = self._rows("acquire_lease", name=name, holder=holder, ttl_s=ttl_s)
        return Lease(name, holder, rows[0][0], self._time(rows[0][1])) if rows else None

    def release_lease(self, lease: Lease) -> None:
        self._rows("release_lease", name=lease.name, holder=lease.holder, epoch=lease.epoch)

    def _renew_lease(self, run: Run, lease: Lease, ttl_s: float) -> None:
        """Renews the lease inside a transaction, so that nobody takes it over before that ends. Raises LeaseLost."""
        params = {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch, "ttl_s": ttl_s, "now": self._now()}
        if not run(self._sql["renew_lease"], params):
            raise self._lost(lease)

    def _lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(f"{self.database}: the lease {lease.name!r} of {lease.holder} has passed to another holder")

    # Sweeping.

    def start_sweep(self, sweeper: str) -> SweepRun:
        ((run_id, started_at),) = self._rows("start_sweep", sweeper=sweeper)
        return SweepRun(run_id, sweeper, self._time(started_at), None, 0.0, 0, {}, None)

    def due_companies(self) -> list[DueCompany]:
        return sorted(
            (DueCompany(company_id, keys) for company_id, keys in self._rows("due_companies")),
            key=lambda due: due.company_id,
        )

    def sweep_companies(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> SweepRun:
        by_type = self._sweep_batch(lease, run, company_ids, ttl_s)
        more = {key_type: keys - run.by_type.get(key_type, 0) for key_type, keys in by_type.items()}
        self._count(EVERYBODY, [("swept", key_type, keys) for key_type, keys in more.items()])
        return replace(run, deleted=sum(by_type.values()), by_type=by_type)

    def _sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        """Sweeps under the lease, and records it; what the whole run has deleted by now. Raises LeaseLost."""

        def sweep(execute: Run) -> dict[str, int]:
            self._renew_lease(execute, lease, ttl_s)
            # What is recorded, not what the caller knows: a batch repeated because its answer got lost counts once.
            recorded = execute(self._sql["recorded_sweep"], {"run_id": run.run_id})
            by_type: dict[str, int] = json.loads(recorded[0][0]) if recorded else {}
            for key_type, deleted in self._swept(execute, self._sweep_params(company_ids)):
                by_type[key_type] = by_type.get(key_type, 0) + deleted
            total = sum(by_type.values())
            execute(self._sql["record_sweep"], {"run_id": run.run_id, "deleted": total, "by_type": json.dumps(by_type)})
            self._renew_lease(execute, lease, ttl_s)  # Counted from the end of a long batch, not from its start.
            return by_type

        return self.link.work(sweep)

    def _sweep_params(self, company_ids: list[str]) -> dict[str, Any]:
        return {
            "company_ids": self._list(company_ids),
            "guard": self._guard,
            "attached": not self.converted,
            "now": self._now(),
        }

    @abstractmethod
    def _swept(self, run: Run, params: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        """Deletes what a sweep deletes; how many of each type."""

    def finish_sweep(self, run: SweepRun, took_ms: float, error: str | None) -> SweepRun:
        rows = self._rows("finish_sweep", run_id=run.run_id, took_ms=took_ms, error=error)
        self._rows("forget_sweeps")
        self._rows("forget_counters")
        finished_at = self._time(rows[0][0]) if rows else None
        return SweepRun(run.run_id, run.sweeper, run.started_at, finished_at, took_ms, run.deleted, run.by_type, error)

    def sweep_runs(self, limit: int) -> list[SweepRun]:
        return [
            SweepRun(
                run_id,
                sweeper,
                self._time(started),
                self._optional_time(finished),
                took_ms,
                deleted,
                json.loads(by_type),
                error,
            )
            for run_id, sweeper, started, finished, took_ms, deleted, by_type, error in self._rows(
                "sweep_runs", limit=limit
            )
        ]

    # Expiry.

    def backfill(self, limit: int) -> dict[str, int]:
        types = [row[0] for row in self._rows("types_without_expiry", limit=limit)]
        if not types:
            return {}
        return self._backfilled(self._rows("backfill", limit=limit, **self._policy_params(types)))

    def _backfilled(self, rows: list[Row]) -> dict[str, int]:
        """How many of each type, from the rows of a backfill."""
        return dict(rows)

    @property
    def expiry_enforced(self) -> bool:
        return bool(self._rows("expiry_enforced")[0][0])

    def enforce_expiry(self) -> None:
        if not self.converted:
            raise InvalidInput(
                f"{self.database}: not while a bot writes here without us: every key that it writes without an expiry "
                "would be lost. Run `python run.py migrate` with the bot stopped, and enforce it then"
            )
        if self.expiry_enforced:
            return
        if self._rows("types_without_expiry", limit=1):
            raise InvalidInput(
                f"{self.database}: there are keys without expiry; run `python run.py backfill` before enforcing it"
            )
        self._enforce_expiry()

    @abstractmethod
    def _enforce_expiry(self) -> None:
        """Adds the rule; there are no keys without expiry."""

    # Rows with their times.

    def move_key(self, key: KeyName, key_type: str, key_id: str) -> bool:
        params = {
            "company_id": key.company_id,
            "key_type": key.key_type,
            "key_id": key.key_id,
            "to_type": key_type,
            "to_id": key_id,
            "updated_at": self._stored_time(key.updated_at),
        }

        def move(run: Run) -> bool:
            if not run(self._sql["hold_key"], params):
                return False
            run(self._sql["drop_older"], params)
            return bool(run(self._sql["move_key"], params))

        return self.link.work(move)

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
                bool(never),
            )
            for key_type, key_id, value, created, updated, expires, never in self._rows(
                "export_rows", company_id=company
            )
        ]

    def restore_rows(self, company_id: str, rows: Iterable[KeyRow], creds: bytes | None = None) -> None:
        self._require_converted()
        company, kept = ids.canonical_company(company_id), restorable(rows)
        stored_creds = None if creds is None else codec.encode(ids.checked_value("creds", creds))

        def restore(run: Run) -> None:
            self._restore(run, company, kept)
            if stored_creds is not None:
                run(self._sql["set_creds"], {"company_id": company, "creds": stored_creds, "now": self._now()})

        self.link.work(restore)

    @abstractmethod
    def _restore(self, run: Run, company: str, rows: list[KeyRow]) -> None:
        """Writes rows with the times they carry."""


_EPOCH = date(1970, 1, 1)


def ttl_and_step(policy: Policy, key_type: str) -> tuple[float, float]:
    """The lifetime and the rounding step of a type, both in seconds."""
    ttl_s = policy.ttl_s(key_type)
    return ttl_s, float(ttl.step_s(ttl_s))


def restorable(rows: Iterable[KeyRow]) -> list[KeyRow]:
    """The rows, checked as a `set` would check them, each name once (the last one given), in locking order.

    Raises InvalidInput naming the field.
    """
    by_name: dict[tuple[str, str], KeyRow] = {}
    for row in rows:
        ids.checked_writes({row.key_type: {row.key_id: row.value}})
        for field in ("created_at", "updated_at", "expires_at"):
            time = getattr(row, field)
            if time is not None and time.tzinfo is None:
                raise InvalidInput(f"{field} of {row.key_type!r} {row.key_id!r}: a time without a time zone")
        by_name[row.key_type, row.key_id] = row
    return [by_name[name] for name in sorted(by_name)]
