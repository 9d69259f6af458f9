"""The queries of SQLite: one file, for local work and small bots. It keeps the whole contract.

The database's clock is this machine's clock. So the time comes from Python, and `keystore.ttl` computes the expiries.

Length: the queries of a database are one class, as the contract is.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from types import NoneType
from typing import Any

from keystore import ttl
from keystore.errors import KeystoreError
from keystore.ids import KNOWN_TYPES, MAX_OTHER_TYPES, OTHER_TYPES
from keystore.records import REPAIR, KeyRow, Lease, SweepRun
from keystore.sql.link import RefusalError, Row, Run
from keystore.sql.policy_table import policy_of_rows, read_policy, row_of
from keystore.sql.queries import NOTHING_CHANGED, Change, Changed, Numbers, Outcome, Queries
from keystore.sql.quota import Usage, require_room
from keystore.sql.times import time_of
from keystore.sqlite.link import SqliteLink
from keystore.sqlite.sealed_rows import SqliteSealedRows, require_data_key
from keystore.sqlite.statements import STATEMENTS
from keystore.sqlite.trash import put_former_away, trash_for
from keystore.tally import Count
from keystore.ttl import DEFAULT, PRE_KEYS_KEPT, Policy
from keystore.values.codec import nonce_of, overwrites

PRE_KEY, SESSION = "pre-key", "session"

_KEY = (str, str, bytes)

COLUMNS = {
    "load": _KEY,
    "stored_values": _KEY,
    "export_rows": _KEY,
    "deleted_rows": _KEY,
    "get": (str, bytes),
    "get_creds": (bytes,),
}
"""The types of columns that are read as they are. In a damaged file a column may have another type."""

NEVER_US = 2**63 - 1
"""The stored expiry of a key that never expires."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

POLICY_READ_EVERY_S = 1.0
"""Age from which an open store reads the lifetimes again, in case another one has changed them."""


class SqliteQueries(SqliteSealedRows, Queries):
    """The queries of a migrated SQLite file."""

    link: SqliteLink
    sql = STATEMENTS
    _policy_read: tuple[float, Policy] = (-math.inf, DEFAULT)

    # The operations of a bot.

    def run(self, name: str, /, **params: Any) -> list[Row]:
        return self._of_their_types(name, super().run(name, **params))

    def _of_their_types(self, name: str, rows: list[Row]) -> list[Row]:
        """Return the rows of a statement. Raises KeystoreError if a column that is read as it is has another type."""
        if name in COLUMNS:
            for kind, column in zip(COLUMNS[name], zip(*rows, strict=True), strict=False):
                if not {kind, NoneType}.issuperset(map(type, column)):
                    raise KeystoreError(self.link.damaged("a column has another type"))
        return rows

    def get(self, company: str, key_type: str, key_ids: list[str]) -> tuple[list[Row], int]:
        params = {
            "company_id": company,
            "key_type": key_type,
            "key_ids": self.list_param(key_ids),
            "due_before": self._lives([key_type])[0][2],
        }
        rows, renewed = self.run("get", **params), 0
        if due := [(key_type, key_id) for key_id, _, is_due in rows if is_due]:
            renewed = sum(keys for _, keys in self._renew(company, due))
            rows = self.run("get", **params)
        return rows, renewed

    def set(self, change: Change) -> Changed:
        expiries = self._expiries([change])
        return self.link.work(lambda run: self._set(run, change, expiries), timeout_s=None)

    def set_all(self, changes: list[Change]) -> list[Outcome]:
        expiries = self._expiries(changes)

        def write(run: Run) -> list[Outcome]:
            outcomes: list[Outcome] = []
            for change in changes:
                run("SAVEPOINT one_company", {})
                try:
                    outcomes.append(self._set(run, change, expiries))
                except RefusalError as refused:
                    run("ROLLBACK TO one_company", {})
                    outcomes.append(refused)
                run("RELEASE one_company", {})
            return outcomes

        return self.link.work(write, timeout_s=None)

    def _expiries(self, changes: list[Change]) -> dict[str, int]:
        """Return the expiry of each type that is written now."""
        key_types = {key_type for change in changes for key_type, _, _ in change.written}
        return {key_type: expires_at for key_type, expires_at, _ in self._lives(key_types)}

    def _set(self, run: Run, change: Change, expiry: Mapping[str, int]) -> Changed:
        company, written, deleted, now = change.company, change.written, change.deleted, self.now_param()
        others = sorted({row[0] for row in written} - KNOWN_TYPES)
        rows = [
            (company, key_type, key_id, value, nonce_of(value), now, now, expiry[key_type])
            for key_type, key_id, value in written
        ]
        pre_keys = {key_id: value for key_type, key_id, value in written if key_type == PRE_KEY}
        require_data_key(run, self.sql, company, change.data_key)
        if not self._admit(run, company, change.epoch, change.seq, now, change.acknowledged):
            return NOTHING_CHANGED
        if others:
            self._require_few_types(run, company, others)
        used = self._usage(run, company) if change.quota else None
        if change.creds is not None:
            put_former_away(run, self.sql, company, change.creds, now, other_identity=change.other_identity)
        before = dict(self._count_existing(run, company, [name for *name, _ in written if name[0] != PRE_KEY]))
        events = [("deleted", *row) for row in self._count_existing(run, company, deleted)]
        if deleted:
            run(self.sql["delete"], [(company, key_type, key_id) for key_type, key_id in deleted])
        # The stored pre-keys are unused: a bot deletes one when it is used.
        params = {"company_id": company, "key_ids": self.list_param(pre_keys)}
        unused: dict[str, bytes] = dict(run(self.sql["unused_pre_keys"], params)) if pre_keys else {}
        rewritten = [key_id for key_id, value in unused.items() if overwrites(value, pre_keys[key_id])]
        if rewritten:
            run(self.sql["count_rewritten"], {"company_id": company, "now": now, "n": len(rewritten)})
        if rows:
            run(self.sql["put"], rows)
        if change.creds is not None:
            run(self.sql["write_creds"], {"company_id": company, "creds": change.creds, "now": now})
        after = None
        if used is not None and change.quota is not None:
            # Counted as if every key was new. Only a write that might exceed the quota is worth a second count.
            after = Usage(used.keys + len(written), used.value_bytes + sum(len(value) for *_, value in written))
            if after.keys > change.quota.keys or after.value_bytes > change.quota.value_bytes:
                after = self._usage(run, company)
            require_room(change.quota, used, after)
        before[PRE_KEY] = len(unused)
        for key_type, keys in Counter(row[0] for row in written).items():
            existing = before.get(key_type, 0)
            events += [("created", key_type, keys - existing), ("renewed", key_type, existing)]
        return Changed(events, rewritten, after)

    def _usage(self, run: Run, company: str) -> Usage:
        return Usage(*run(self.sql["usage"], {"company_id": company})[0])

    def _require_few_types(self, run: Run, company: str, others: list[str]) -> None:
        """Refuse a write after which the company would have too many types besides the known ones."""
        if len(others) > MAX_OTHER_TYPES:
            raise RefusalError("KS003", {"types": len(others)})
        limit = len(KNOWN_TYPES) + MAX_OTHER_TYPES + 1
        stored = {key_type for (key_type,) in run(self.sql["types_of"], {"company_id": company, "limit": limit})}
        added = [name for name in others if not run(self.sql["has_type"], {"company_id": company, "key_type": name})]
        types = len(stored - KNOWN_TYPES) + len(added)
        if added and types > MAX_OTHER_TYPES:
            raise RefusalError("KS003", {"types": types})

    def touch(self, company: str, used: list[tuple[str, str]]) -> tuple[list[Row], dict[str, list[str]]]:
        renewed = self._renew(company, used)
        missing: dict[str, list[str]] = {}
        names = json.dumps(used, ensure_ascii=False)
        for key_type, key_id in self.run("missing", company_id=company, names=names):
            missing.setdefault(key_type, []).append(key_id)
        return renewed, missing

    def _renew(self, company: str, used: list[tuple[str, str]]) -> list[Row]:
        """Renew those of the keys that are due. Return `(key_type, keys)`."""
        lives = {key_type: times for key_type, *times in self._lives({key_type for key_type, _ in used})}
        with_times = json.dumps([(*name, *lives[name[0]]) for name in used], ensure_ascii=False)
        return _counted(self.run("touch", company_id=company, used=with_times))

    def _count_existing(self, run: Run, company: str, names: Sequence[Sequence[str]]) -> list[Row]:
        """Return `(key_type, keys)`: how many of these `(key_type, key_id)` are stored."""
        return run(self.sql["count_existing"], {"company_id": company, "names": json.dumps(names)}) if names else []

    def clear(self, company: str, numbers: Numbers, *, keys_only: bool) -> list[Row]:
        epoch, seq, known_seq = numbers
        now = self.now_param()

        def clear(run: Run) -> list[Row]:
            if not self._admit(run, company, epoch, seq, now, known_seq):
                return []
            trash_for(run, self.sql, company, "clear", now).put_state(keys_only=keys_only)
            deleted = run(self.sql["clear_keys"], {"company_id": company})
            if not keys_only:
                run(self.sql["clear_creds"], {"company_id": company})
            return _counted(deleted)

        return self.link.work(clear, timeout_s=None)

    def _admit(
        self, run: Run, company: str, epoch: int | None, seq: int | None, now: int, known_seq: int | None = None
    ) -> bool:
        """Let a write begin, inside its transaction; False when the database has it, or a later one, already.

        Refuses it unless the live lease allows a write with this epoch, and the database has the write `known_seq`.
        """
        rows = run(self.sql["company_lease"], {"company_id": company, "now": now})
        holder, live_epoch = rows[0] if rows else (None, None)
        if epoch != live_epoch:
            raise RefusalError("KS001", {"holder": holder, "epoch": live_epoch})
        if holder and epoch is None:
            run(self.sql["forget_holder"], {"company_id": company})  # Its memory lacks this write: it can't go on.
        if known_seq is not None:
            ((_, stored_seq),) = run(self.sql["last_write"], {"company_id": company}) or [(0, 0)]
            if stored_seq < known_seq:
                raise RefusalError("KS007", {"seq": stored_seq})
        params = {"company_id": company, "epoch": epoch, "seq": seq}
        return seq is None or bool(run(self.sql["number_write"], params))

    # Upkeep.

    def run_in_turn(self, names: Sequence[str], params: dict[str, Any]) -> list[Row]:
        return self.link.work(lambda run: [row for name in names for row in run(self.sql[name], params)])

    def save_counts(self, counts: Mapping[Count, int]) -> None:
        rows = [
            (count.company_id, self.time_param(count.hour), count.key_type, count.event, keys)
            for count, keys in counts.items()
        ]
        self.link.work(lambda run: run(self.sql["add_count"], rows))

    def due_sessions(self) -> list[Row]:
        now = self.now_param()

        def count(run: Run) -> list[Row]:
            is_waiting = self._due_from(run(self.sql["policy"], {}), SESSION) > now
            return [] if is_waiting else run(self.sql["due_sessions"], {"now": now})

        return self.link.work(count, snapshot=True)

    def sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        def sweep(execute: Run) -> dict[str, int]:
            self._renew_lease(execute, lease, ttl_s)
            recorded = execute(self.sql["recorded_sweep"], {"run_id": run.run_id})
            by_type: Counter[str] = Counter(json.loads(recorded[0][0]) if recorded else {})
            by_type.update(self._sweep_companies(execute, company_ids))
            record = {"run_id": run.run_id, "deleted": by_type.total(), "by_type": json.dumps(by_type)}
            execute(self.sql["record_sweep"], record)
            self._renew_lease(execute, lease, ttl_s)
            return dict(by_type)

        return self.link.work(sweep)

    def _sweep_companies(self, run: Run, company_ids: list[str]) -> Counter[str]:
        """Delete the due keys of these companies. Keys of types that aren't due yet get their right expiry."""
        now = self.now_param()
        waiting = self._waiting(run, now)
        for key_type, due_from in waiting.items():
            run(self.sql["correct_expiry"], {"key_type": key_type, "now": now, "due_from": due_from})
        due = run(self.sql["due_keys"], self._due_params(now, waiting, self.list_param(company_ids)))
        swept = [name for *name, guarded in due if not guarded]
        if swept:
            run(self.sql["delete"], swept)
        return Counter(self.counted_as(key_type) for _, key_type, _ in swept)

    def _waiting(self, run: Run, now: int) -> dict[str, int]:
        """Return the types that have keys past their expiry but aren't due, and the time from which they are."""
        policy = run(self.sql["policy"], {})
        past = run(self.sql["past_types"], {"now": now})
        due_from = {key_type: self._due_from(policy, key_type) for (key_type,) in past}
        return {key_type: time for key_type, time in due_from.items() if time > now}

    def _due_from(self, rows: list[Row], key_type: str) -> int:
        """Return the time before which no key of a type is due, by the rows of the table of lifetimes.

        An expiry that was made by a shorter lifetime says nothing. A key that never expires is never due.
        """
        policy = policy_of_rows(rows) or DEFAULT
        row = row_of(rows, key_type)
        lengthened_at = row and row[3]
        if lengthened_at is None and policy.ttl_s(key_type) != ttl.NEVER:
            return 0
        return self._expiry_param(ttl.expires_at(policy, key_type, self.time(lengthened_at or 0)))

    def _due_params(self, now: int, waiting: Iterable[str], company_ids: str | None) -> dict[str, Any]:
        return {
            "company_ids": company_ids,
            "waiting": self.list_param(waiting),
            "guard": self.guard,
            "pre_keys_kept": PRE_KEYS_KEPT,
            "now": now,
        }

    def in_portions(self, names: Sequence[str], params: Mapping[str, Any]) -> list[list[Row]]:
        """Count the due keys of a census with the statement of a sweep."""
        if "census" not in names:
            return super().in_portions(names, params)
        now = self.now_param()
        waiting = self.link.work(lambda run: self._waiting(run, now), snapshot=True)
        *counted, due = super().in_portions([*names, "due_keys"], {**params, **self._due_params(now, waiting, None)})
        by_type = Counter((key_type, bool(guarded)) for _, key_type, _, guarded in due)
        counted[0] = [
            (key_type, total, with_expiry, by_type[key_type, False], by_type[key_type, True], *rest)
            for key_type, total, with_expiry, *rest in counted[0]
        ]
        return counted

    def _renew_lease(self, run: Run, lease: Lease, ttl_s: float) -> None:
        """Renew the lease in a transaction, which keeps other holders from it until the end. Raises LeaseLost."""
        params = {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch, "ttl_s": ttl_s}
        if not run(self.sql["renew_lease"], {**params, "now": self.now_param()}):
            raise self.lease_lost(lease)

    def backfill(self, limit: int) -> list[Row]:
        types = [row[0] for row in self.run_upkeep("types_without_expiry", limit=limit)]
        if not types:
            return []
        lives = json.dumps(self._lives(types), ensure_ascii=False)
        return _counted(self.run_upkeep("backfill", limit=limit, policy=lives))

    def life_params(self) -> dict[str, Any]:
        rows = self.run_upkeep("policy")
        policy = policy_of_rows(rows) or DEFAULT
        firsts = []
        for key_type in {*self.named_types, OTHER_TYPES}:
            ttl_s = policy.ttl_s(key_type)
            life_us = None if ttl_s == ttl.NEVER else round(ttl_s * 1_000_000)
            firsts.append((key_type, life_us, ttl.step_s(ttl_s) * 1_000_000, self._due_from(rows, key_type)))
        return {
            "guard": self.guard,
            "firsts": json.dumps(firsts, ensure_ascii=False),
            "never": NEVER_US,
            "pre_keys_kept": PRE_KEYS_KEPT,
        }

    def largest_company(self, most_keys: int, most_bytes: int) -> str | None:
        rows = self.run_upkeep("largest_company", most_keys=most_keys, most_bytes=most_bytes)
        return rows[0][0] if rows else None

    def enforce_expiry(self) -> None:
        steps = ("enforce_create", "enforce_copy", "enforce_drop", "enforce_rename", "enforce_index")
        self.link.work(lambda run: [run(self.sql[step], {}) for step in steps])

    def restore(
        self,
        company: str,
        rows: list[KeyRow],
        creds: bytes | None,
        gone: list[tuple[str, str]],
        reason: str,
        data_key: bytes | None,
    ) -> None:
        params = [
            (
                *(company, row.key_type, row.key_id, row.value, nonce_of(row.value)),
                *(self.time_param(row.created_at), self.time_param(row.updated_at)),
                NEVER_US if row.never_expires else row.expires_at and self.time_param(row.expires_at),
            )
            for row in rows
        ]

        def restore(run: Run) -> None:
            now = self.now_param()
            require_data_key(run, self.sql, company, data_key)
            self._admit(run, company, None, None, now)
            new = {(key_type, key_id): value for _, key_type, key_id, value, *_ in params}
            names = json.dumps([*gone, *new], ensure_ascii=False)
            stored = run(self.sql["stored_values"], {"company_id": company, "names": names})
            replaced = any(new.get((key_type, key_id)) != value for key_type, key_id, value in stored)
            former = run(self.sql["get_creds"], {"company_id": company})
            if replaced or (creds is not None and former not in ([], [(creds,)])):
                trash_for(run, self.sql, company, reason, now).put_state()
            run(self.sql["delete"], [(company, key_type, key_id) for key_type, key_id in gone])
            run(self.sql["restore_row"], params)
            if creds is not None:
                run(self.sql["write_creds"], {"company_id": company, "creds": creds, "now": now})

        self.link.work(restore)

    def drop_older(self, run: Run, params: Mapping[str, Any]) -> None:
        trash = trash_for(run, self.sql, params["company_id"], REPAIR, self.now_param())
        trash.put_key(params["to_type"], params["to_id"], params["updated_at"])
        trash.limit()
        super().drop_older(run, params)

    def empty_trash(self) -> int:
        trash_s = self.run_upkeep("trash_s")[0][0]
        return len(self.run_upkeep("empty_trash", upto=self.now_param() - round(trash_s * 1_000_000)))

    def purge(self, run: Run, company: str) -> dict[str, int]:
        self._admit(run, company, None, None, self.now_param())
        run(self.sql["purge_sweep_errors"], {"company_id": company})
        for name in ("move_tokens", "purge_token_companies"):
            run(self.sql[name], {"company_id": company})
        return {
            table: len(run(self.sql[f"purge_{table}"], {"company_id": company}))
            for table in (
                *("whatsapp_keys", "whatsapp_auth", "keystore_trash", "keystore_counters"),
                *("keystore_company_leases", "keystore_company_writes", "keystore_tokens", "keystore_data_keys"),
            )
        }

    def add_token(self, params: dict[str, Any]) -> list[Row]:
        return self.run_in_turn(["add_token_companies", "add_token"], params)

    # Values.

    def now(self) -> datetime:
        self.link.require_open()
        return self._moment()

    def _moment(self) -> datetime:
        return self.clock_time() or datetime.now(UTC)

    def now_param(self) -> int:
        return self.time_param(self._moment())

    def time(self, stored: int) -> datetime:
        return time_of(stored)

    def time_param(self, time: datetime) -> int:
        return (time - _EPOCH) // _MICROSECOND

    def list_param(self, values: Iterable[str]) -> str:
        return json.dumps(list(values), ensure_ascii=False)

    def texts(self, stored: str) -> tuple[str, ...]:
        return tuple(json.loads(stored))

    def _lives(self, key_types: Iterable[str]) -> list[tuple[str, int, int]]:
        """Return `(key_type, expires_at, due_before)`: a use renews an expiry before `due_before` to `expires_at`."""
        now, policy = self._moment(), self._recent_policy()
        times: dict[float, tuple[int, int]] = {}  # Types share a few lifetimes.
        lives = []
        for key_type in key_types:
            ttl_s = policy.ttl_s(key_type)
            if ttl_s not in times:
                expires_at, due_before = (
                    self._expiry_param(time_of(policy, key_type, now))
                    for time_of in (ttl.expires_at, ttl.renewed_before)
                )
                times[ttl_s] = expires_at, due_before
            lives.append((key_type, *times[ttl_s]))
        return lives

    def _recent_policy(self) -> Policy:
        """Return the database's policy as it was within the last second: reading it doubles the time of a get."""
        read_at, policy = self._policy_read
        if monotonic() - read_at >= POLICY_READ_EVERY_S:
            policy = read_policy(self.link, self.sql) or DEFAULT
            self._policy_read = monotonic(), policy
        return policy

    def _expiry_param(self, time: datetime | None) -> int:
        return NEVER_US if time is None else self.time_param(time)

    def run_upkeep(self, name: str, /, **params: Any) -> list[Row]:
        return self._of_their_types(name, super().run_upkeep(name, never=NEVER_US, **params))

    def run_within(self, run: Run, name: str, /, **params: Any) -> list[Row]:
        return self._of_their_types(name, super().run_within(run, name, never=NEVER_US, **params))


def _counted(rows: list[Row]) -> list[Row]:
    """Return `(key_type, keys)` of rows that begin with a key's type, one for each key."""
    return list(Counter(row[0] for row in rows).items())
