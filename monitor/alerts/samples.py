"""Samples: measurements as values that a rule judges, with a sentence about each. Pure.

Some measurements are rare (a census of a large table), and so are their samples: the rules allow for that.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from math import ceil

from keystore.records import Burst, Census, SweepRun, UnreadableValue
from monitor.alerts import rules
from monitor.alerts.decisions import AlertState, Sample
from monitor.alerts.memory import BotReport, ProcessMemory
from monitor.alerts.rules import LOW_PRE_KEYS, PRE_KEYS_ENOUGH, SILENT_AFTER
from monitor.forecast.backtest import JudgedForecast
from monitor.held_back import has_held_back
from monitor.reports.check import named_values, sweep_state
from monitor.reports.formatting import duration, local_time, size

FEWEST_LOADS = 5
"""Timed loads below which their 95th percentile means nothing."""

FEWEST_KEYS = 100
"""Size of a table below which shares of it mean nothing."""

ROOMY_BYTES = 5_000_000_000
"""Free space at which a disk isn't nearly full, at any share: an embedded key store has some hundred MB."""


def of_process(memory: ProcessMemory) -> Sample:
    """This service's memory, with a breakdown that tells a leak from memory shared with others."""
    heap = "" if memory.heap_bytes is None else f", {size(memory.heap_bytes)} in its heap"
    detail = f"{memory.in_words}, the limit of {memory.limit.source}; {size(memory.uss_bytes)} unshared{heap}"
    return Sample(rules.MEMORY, "", memory.used_share, detail)


def of_bots(
    reports: Mapping[str, BotReport],
    ages: Mapping[str, timedelta],
    state: AlertState,
    reachable_for: timedelta,
    zone: tzinfo = UTC,
) -> Iterator[Sample]:
    """The memory of each bot that reports, and the silence of each that has stopped without being closed.

    `ages` has the time since the last heartbeat of each. A bot is silent for that long, or for as long as heartbeats
    can arrive here, if that is shorter. A bot that never sent a heartbeat isn't missed, nor one that was closed.
    """
    alert_fires = state.firing_subjects(rules.SILENT_BOT)
    for company, report in reports.items():
        # A bot that was silent before this service was restarted is still silent.
        ago = ages[company] if company in alert_fires else min(ages[company], reachable_for)
        if ago < SILENT_AFTER:
            if ages[company] < SILENT_AFTER:
                yield Sample(rules.BOT_MEMORY, company, report.memory.used_share, report.memory.in_words)
            detail = "it sends heartbeats"
        else:
            last = f"its last report: {report.memory.in_words}"
            yield Sample(rules.BOT_MEMORY, company, None, f"it has stopped reporting; {last}")
            detail = f"no heartbeat since {local_time(report.reported_at, zone)}; {last}"
        yield Sample(rules.SILENT_BOT, company, ago / SILENT_AFTER, detail)
    for rule in (rules.BOT_MEMORY, rules.SILENT_BOT):
        for company in state.subjects(rule) - reports.keys():
            yield Sample(rule, company, None, "it was closed, or has been silent for a day")


def of_database(database: str, error: str | None) -> Sample:
    """The database's availability; `error` is the reason when it doesn't answer, and may name the database itself."""
    if error is None:
        return Sample(rules.DATABASE, "", 0.0, f"{database} answers")
    return Sample(rules.DATABASE, "", 1.0, f"{database}: {error.removeprefix(f'{database}: ')}")


def of_lost_writes(lost: Mapping[str, str], firing: Collection[str]) -> Iterator[Sample]:
    """The companies of which the database has lost writes (`lost` says what is missing), and those that are well."""
    for company, detail in lost.items():
        yield Sample(rules.WENT_BACK, company, 1.0, detail)
    for company in firing:
        if company not in lost:
            yield Sample(rules.WENT_BACK, company, 0.0, "rolled-back was run, or its bot lost nothing in the last day")


def of_unreadable(unreadable: Iterable[UnreadableValue], firing: Collection[str]) -> Iterator[Sample]:
    """The companies with values that can't be read, and those that have none any more."""
    by_company: dict[str, list[UnreadableValue]] = {}
    for value in unreadable:
        by_company.setdefault(value.company_id, []).append(value)
    for company, values in by_company.items():
        yield Sample(rules.UNREADABLE, company, 1.0, named_values(values))
    for company in firing:
        if company not in by_company:
            yield Sample(rules.UNREADABLE, company, 0.0, "each was written again, or deleted")


def of_loads(loads_ms: Collection[float], budget_ms: float, company: str) -> Iterator[Sample]:
    """The 95th percentile of the latest loads; nothing while there are too few."""
    if len(loads_ms) >= FEWEST_LOADS:
        p95_ms = sorted(loads_ms)[ceil(0.95 * len(loads_ms)) - 1]  # The nearest rank.
        detail = f"{p95_ms:,.0f} ms (95th percentile of {len(loads_ms)}), budget {budget_ms:,.0f} ms; of {company}"
        yield Sample(rules.LOAD, "", p95_ms, detail)


def of_census(census: Census) -> Iterator[Sample]:
    """The backlog, and the keys without expiry."""
    share = census.expired / census.total if census.total >= FEWEST_KEYS else 0.0
    backlog = f"{census.expired:,} of {census.total:,} keys wait for a sweep ({share:.0%})"
    yield Sample(rules.BACKLOG, "", share, backlog)
    lacking = f"{census.without_expiry:,} of {census.total:,} keys have none and will never be swept"
    yield Sample(rules.NO_EXPIRY, "", census.without_expiry, lacking if census.without_expiry else "every key has one")


def last_sweep(runs: list[SweepRun], watching_since: datetime) -> tuple[datetime, str]:
    """The time and the name of the last success; without one, of the first try or the start of the watch."""
    success = sweep_state(runs).last_success
    if success is not None and success.finished_at is not None:
        return success.finished_at, "the last success was"
    first_try = min([watching_since, *(run.started_at for run in runs)])
    return first_try, "none succeeded; the first try was" if runs else "none has run; this service started"


def of_sweeps(event: str, ago_s: float, sweep_every_s: float) -> Sample:
    """Sweep intervals since this event."""
    detail = f"{event} {duration(ago_s)} ago, and one is due every {duration(sweep_every_s)}"
    return Sample(rules.SWEEPER, "", ago_s / sweep_every_s, detail)


def of_held_back(runs: list[SweepRun]) -> Iterator[Sample]:
    """The companies that the latest sweep held back; nothing before the first sweep."""
    latest = sweep_state(runs).latest
    if latest is not None:
        error = latest.error if has_held_back(latest) else None
        detail = "the latest sweep held nothing back" if error is None else f"the latest sweep {error}"
        yield Sample(rules.HELD_BACK, "", 0.0 if error is None else 1.0, detail)


def of_growth(forecasts: Iterable[JudgedForecast], now: datetime) -> Iterator[Sample]:
    """The table against the forecast for today, made a week ago or else yesterday. Nothing without a forecast."""
    due = [each for each in forecasts if abs(each.made_at + timedelta(days=each.days) - now) <= timedelta(hours=12)]
    for days, when in ((7, "7 days ago"), (1, "yesterday")):
        forecast = max((each for each in due if each.days == days), key=lambda each: each.made_at, default=None)
        if forecast is not None:
            detail = f"{forecast.actual:,} keys; {when} {forecast.low:,} to {forecast.high:,} were expected"
            judged = forecast.actual >= FEWEST_KEYS and forecast.high
            yield Sample(rules.GROWTH, "", forecast.actual / forecast.high if judged else 0.0, detail)
            return


def of_pre_keys(low: Mapping[str, int], firing: Collection[str]) -> Iterator[Sample]:
    """The companies with few pre-keys (`low` has all that lack some), and those in `firing` that have enough again."""
    for company, left in low.items():
        yield Sample(rules.PRE_KEYS, company, LOW_PRE_KEYS - left, f"{left} left")
    enough = f"{PRE_KEYS_ENOUGH} or more again, or its creds are gone"
    for company in firing:
        if company not in low:
            yield Sample(rules.PRE_KEYS, company, LOW_PRE_KEYS - PRE_KEYS_ENOUGH, enough)


def of_bursts(bursts: Iterable[Burst], now: datetime, zone: tzinfo = UTC) -> Iterator[Sample]:
    """Each burst of pre-keys: a bot has reconnected. One in the future is from before the clock was set back."""
    for burst in bursts:
        if burst.key_type == "pre-key" and burst.at <= now:
            detail = f"{burst.company_id} wrote {burst.keys:,} new pre-keys after {local_time(burst.at, zone)}"
            yield Sample(rules.BURST, f"{burst.company_id} {burst.at:%Y-%m-%d %H}h", 1.0, detail)


def of_disk(used_bytes: int, free_bytes: int) -> Sample:
    """The used share of the disk below an embedded database; `free_bytes` are those an ordinary process may use."""
    all_bytes = used_bytes + free_bytes
    share = used_bytes / all_bytes if all_bytes else 0.0
    detail = f"{size(free_bytes)} of {size(all_bytes)} are free"
    return Sample(rules.DISK, "", share if free_bytes < ROOMY_BYTES else 0.0, detail)
