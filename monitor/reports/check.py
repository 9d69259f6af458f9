"""The `check` report: the counts of the table, the sweeper's work, and advice.

The judgement is a pure function of the counts. A report names its database, because an operator's sweeper once went on
cleaning a database that the bots had left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

from keystore.baileys import KEY_TYPES, MIS_SPLIT_TYPES
from keystore.invocation import command
from keystore.records import Census, SealingState, SweepRun, UnreadableValue
from keystore.store import Store
from monitor.forecast.history import TableCount, past_month
from monitor.held_back import has_held_back
from monitor.reports.formatting import ago, counted, size
from monitor.severity import SEVERITIES

Verdict = Literal["ok", "warning", "critical"]
_WORST_FIRST: tuple[Verdict, ...] = ("critical", "warning", "ok")

SWEEPS_LOOKED_AT = 100
BACKLOG_SHARE = 0.05
"""The share of the table from which expired keys waiting for a sweep are reported."""

MOST_NAMED = 5
"""Number of unreadable values that are named in one line."""

NEW_FOR = timedelta(days=1)
"""Time for which a table without keys is just new: nobody has connected a bot yet."""


@dataclass(frozen=True)
class Finding:
    """One finding: how bad it is, and what to do."""

    verdict: Verdict
    advice: str


@dataclass(frozen=True)
class SweepState:
    """The latest finished sweep without an error, and the latest finished sweep; None if there is none.

    A sweep that held companies back swept all others, and is a success too.
    """

    last_success: SweepRun | None
    latest: SweepRun | None


@dataclass(frozen=True)
class CheckReport:
    """The counts of the table, and the verdict. `last_sweep` is the latest sweep that ended without an error.

    `totals_30d` are the totals of the last 30 days, about one a day, oldest first, and `totals_30d_at` their times.
    `new` is true on the first day of a table that has had no keys yet. `sealing` is `locked` where values are sealed
    and the secret key isn't here, so that they weren't looked at. `unreadable` are values that a read has left out.
    """

    database: str
    total: int
    active: int
    expired: int
    guarded: int
    without_expiry: int
    companies: int
    last_activity_at: datetime | None
    last_sweep: SweepRun | None
    last_failed_sweep: SweepRun | None
    expiry_enforced: bool
    pre_keys_rewritten_7d: int
    size_bytes: int
    taken_at: datetime
    verdict: Verdict
    advice: tuple[str, ...]
    totals_30d: tuple[int, ...] = ()
    totals_30d_at: tuple[datetime, ...] = ()
    new: bool = False
    sealing: SealingState = "off"
    unreadable: tuple[UnreadableValue, ...] = ()
    sealed_by_bots: int = 0


def check_report(store: Store, sweep_every_s: float) -> CheckReport:
    """Count the table and judge it."""
    census, sweeps, enforced = store.census(), sweep_state(store.sweep_runs(SWEEPS_LOOKED_AT)), store.expiry_enforced
    past = past_month(store, census.taken_at)
    unreadable = tuple(store.unreadable())
    findings = judge(
        census,
        sweeps,
        sweep_every_s,
        expiry_enforced=enforced,
        past=past,
        sealing=store.sealing,
        unreadable=unreadable,
    )
    failed = sweeps.latest if sweeps.latest is not None and sweeps.latest is not sweeps.last_success else None
    return CheckReport(
        database=store.database,
        total=census.total,
        active=census.active,
        expired=census.expired,
        guarded=census.guarded,
        without_expiry=census.without_expiry,
        companies=census.companies,
        last_activity_at=census.last_activity_at,
        last_sweep=sweeps.last_success,
        last_failed_sweep=failed,
        expiry_enforced=enforced,
        pre_keys_rewritten_7d=census.pre_keys_rewritten_7d,
        size_bytes=census.size_bytes,
        taken_at=census.taken_at,
        verdict=worst(findings),
        advice=tuple(finding.advice for finding in findings),
        totals_30d=tuple(count.total for count in past),
        totals_30d_at=tuple(count.at for count in past),
        new=is_new(census, past),
        sealing=store.sealing,
        unreadable=unreadable,
        sealed_by_bots=len(store.companies_sealed_by_bots()),
    )


def check_rows(report: CheckReport, zone: tzinfo = UTC) -> dict[str, str]:
    """The counts in words, for every rendering: `{label: value}`, in the order shown. Times are in this time zone."""
    sweep = report.last_sweep
    rows = {
        "total": f"{report.total:,}",
        "active": f"{report.active:,}",
        "expired": f"{report.expired:,}",
        "without expiry": f"{report.without_expiry:,}",
        "guarded": f"{report.guarded:,}",
        "companies": f"{report.companies:,}",
        "size": size(report.size_bytes),
        "activity": ago(report.last_activity_at, report.taken_at, zone),
        "sweep": f"{ago(sweep.finished_at, report.taken_at, zone)}, {sweep.deleted:,} deleted" if sweep else "never",
    }
    if report.sealing != "off":
        rows["values"] = "sealed" if report.sealing == "on" else "sealed, and the secret key isn't here"
    if report.sealed_by_bots:
        rows["out of sight"] = (
            f"the values of {counted(report.sealed_by_bots, 'company', 'companies')}, sealed by the bots themselves"
        )
    if report.unreadable:
        rows["unreadable"] = named_values(report.unreadable)
    return rows


def named_values(unreadable: Sequence[UnreadableValue]) -> str:
    """The number of unreadable values, and the names of the first ones."""
    names = [f"{value.company_id} {value.key_type or 'creds'} {value.key_id}".rstrip() for value in unreadable]
    more = f", and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return f"{counted(len(names), 'value')}: {', '.join(names[:MOST_NAMED])}{more}"


def sweep_state(runs: list[SweepRun]) -> SweepState:
    """The state of the sweeper, from its latest runs, newest first."""
    finished = [run for run in runs if run.finished_at is not None]
    succeeded = next((run for run in finished if run.error is None or has_held_back(run)), None)
    return SweepState(succeeded, finished[0] if finished else None)


def judge(
    census: Census,
    sweeps: SweepState,
    sweep_every_s: float,
    *,
    expiry_enforced: bool,
    past: Sequence[TableCount] = (),
    sealing: SealingState = "off",
    unreadable: Sequence[UnreadableValue] = (),
) -> tuple[Finding, ...]:
    """The findings, worst first; `past` are earlier counts of the table, oldest first."""
    findings = [*_table_findings(census, expiry_enforced, past), *_sweep_findings(census, sweeps, sweep_every_s)]
    if unreadable:
        advice = (
            f"{named_values(unreadable)} can't be read: damaged, or moved by somebody who can write the database "
            "(docs/sealing.md); each stays until its bot writes it again"
        )
        findings.append(Finding(verdict_on("unreadable"), advice))
    if sealing == "locked":
        advice = (
            "the values are sealed and the secret key isn't here, so no value was looked at: set KEYSTORE_SECRET_KEYS"
        )
        findings.append(Finding(verdict_on("no-secret-key"), advice))
    mis_split = mis_split_advice(census)
    if mis_split is not None:
        findings.append(Finding(verdict_on("mis-split"), mis_split))
    if census.pre_keys_rewritten_7d:
        advice = (
            f"{census.pre_keys_rewritten_7d:,} unused pre-keys were overwritten with other values in the last 7 days: "
            "first messages of strangers may be unreadable; look for two processes on one account"
        )
        findings.append(Finding(verdict_on("pre-keys-rewritten"), advice))
    return tuple(sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.verdict)))


def verdict_on(fact: str) -> Verdict:
    """The verdict on a fact, by its severity."""
    severity = SEVERITIES[fact]
    return "ok" if severity == "information" else severity


def worst(findings: tuple[Finding, ...]) -> Verdict:
    """The verdict over all findings, which come worst first."""
    return findings[0].verdict if findings else "ok"


def mis_split_advice(census: Census) -> str | None:
    """The advice on keys of a mis-split type, such as `lid`; None if there are none."""
    unread = set(MIS_SPLIT_TYPES) - set(KEY_TYPES)  # `sender-key` is both: a wrong split and a type of its own.
    keys_of = {count.key_type: count.total for count in census.by_type if count.key_type in unread}
    if not keys_of:
        return None
    types = ", ".join(f"`{key_type}`" for key_type in sorted(keys_of))
    have = "has" if sum(keys_of.values()) == 1 else "have"
    return (
        f"{counted(sum(keys_of.values()), 'key')} {have} a mis-split type ({types}) that no bot reads: run "
        f"`{command('repair --dry-run')}` to see which of them it would correct"
    )


def is_new(census: Census, past: Sequence[TableCount]) -> bool:
    """True for a table that has no keys, and as far as is known never had any, for a day at most."""
    had_keys = any(count.total for count in past)
    return not census.total and not had_keys and (not past or census.taken_at - past[0].at <= NEW_FOR)


def _table_findings(census: Census, enforced: bool, past: Sequence[TableCount]) -> Iterator[Finding]:
    if is_new(census, past):
        advice = (
            f"{counted(census.companies, 'company has its', 'companies have their')} creds here, and no keys yet: "
            "these come with the first messages"
            if census.companies
            else "there are no keys here yet: is this the database that your bots use?"
        )
        yield Finding(verdict_on("new"), advice)
    elif not census.total:
        most = max(count.total for count in past)
        before = f"there were up to {most:,} in the last 30 days" if most else "there were none since yesterday"
        advice = f"there are no keys here, and {before}: is this the database that your bots use?"
        yield Finding(verdict_on("no-keys"), advice)
    if census.without_expiry:
        advice = (
            f"{census.without_expiry:,} of {census.total:,} keys have no expiry and will never be swept: run "
            f"`{command('backfill')}`, then `backfill --enforce`"
        )
        yield Finding(verdict_on("no-expiry"), advice)
    elif census.total and not enforced:
        yield Finding("ok", f"every key has an expiry; `{command('backfill --enforce')}` makes the database keep it so")


def _sweep_findings(census: Census, sweeps: SweepState, sweep_every_s: float) -> Iterator[Finding]:
    last, latest = sweeps.last_success, sweeps.latest
    if last is None or last.finished_at is None:
        if census.total:
            advice = f"no sweep has finished yet: start `{command('serve')}`, or run `sweep` once"
            yield Finding(verdict_on("no-sweep"), advice)
    elif census.taken_at - last.finished_at > timedelta(seconds=2 * sweep_every_s):
        hours = f"{(census.taken_at - last.finished_at).total_seconds() / 3600:,.0f} h"
        advice = f"the last successful sweep was {hours} ago: is `{command('serve')}` running on it?"
        yield Finding(verdict_on("sweeper"), advice)
    elif census.expired > BACKLOG_SHARE * census.total:
        expired = counted(census.expired, "expired key")
        yield Finding("ok", f"the next sweep deletes {expired}; `{command('sweep')}` does it now")
    if latest is not None and latest.error is not None and has_held_back(latest):
        advice = f"the latest sweep {latest.error}; if that is right, `{command('sweep')}` deletes them"
        yield Finding(verdict_on("held-back"), advice)
    elif latest is not None and latest.error is not None:
        yield Finding(verdict_on("sweep-failed"), f"the latest sweep failed: {latest.error}")
