"""What is watched, at which numbers, and how a measurement becomes a sample. Pure.

Each number has its reason beside it. A `for` of some minutes keeps back what mends itself; a cooldown of hours keeps an
alert worth reading. What is measured seldom (a census of a large table) gives samples seldom: the rules don't mind.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from keystore.records import Burst, Census, SweepRun
from monitor.alerts.decisions import Rule, Sample, duration
from monitor.alerts.memory import FRESH_FOR, BotReport, ProcessMemory
from monitor.forecast.backtest import JudgedForecast
from monitor.reports.check import sweep_state
from monitor.reports.formatting import size
from monitor.watch_settings import WatchSettings

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0

MEMORY, BOT_MEMORY, DATABASE, LOAD, BACKLOG = "memory", "bot-memory", "database", "load", "backlog"
NO_EXPIRY, SWEEPER, GROWTH, PRE_KEYS, BURST, DISK = "no-expiry", "sweeper", "growth", "pre-keys", "burst", "disk"

FEWEST_LOADS = 5
"""Loads timed before their 95th percentile is worth anything."""

FEWEST_KEYS = 100
"""In a table smaller than that, shares of it mean nothing."""

LOW_PRE_KEYS = 5
"""Baileys uploads new ones when the server holds fewer than this; a company that stays below isn't getting any."""

PRE_KEYS_ENOUGH = 20
"""A company that has so many again is out of danger."""

BURST_TOLD_FOR = timedelta(hours=3)
"""A burst is told while it is news; one that happened while nobody watched is in the reports."""

BOT_GONE_AFTER = timedelta(hours=1)
"""A bot that has reported nothing for so long has ended, and its memory with it."""

ROOMY_BYTES = 5_000_000_000
"""A disk with this much room isn't nearly full, whatever its share: an embedded key store has some hundred MB."""


@dataclass(frozen=True)
class Disk:
    """The disk that an embedded database lies on; `free_bytes` are those an ordinary process may use."""

    used_bytes: int
    free_bytes: int


def alert_rules(settings: WatchSettings) -> dict[str, Rule]:
    """Every rule by its id."""
    # 5 points lower clears: what a collection of garbage frees is less than that, what a restart frees is more.
    memory, clear_memory = settings.memory_alert_percent / 100, max(0.0, settings.memory_alert_percent - 5) / 100
    return {
        rule.id: rule
        for rule in (
            # Two minutes: longer than a burst's values are in memory, shorter than a leak's last part.
            Rule(MEMORY, "memory of this service", memory, clear_memory, 2 * MINUTE_S, 6 * HOUR_S, "critical"),
            Rule(BOT_MEMORY, "memory of a bot", memory, clear_memory, 2 * MINUTE_S, 6 * HOUR_S, "critical"),
            # Half a minute: a restarted database is back by then. No cooldown to speak of: every outage is news.
            Rule(DATABASE, "database", 1, 0, 30, 5 * MINUTE_S, "critical"),
            # The 95th percentile of 20 loads, a minute apart: it is over the budget only when two of them were.
            Rule(
                LOAD,
                "loading a bot's state",
                settings.load_budget_ms,
                0.8 * settings.load_budget_ms,
                5 * MINUTE_S,
                6 * HOUR_S,
            ),
            # A tenth of the table, and still there after the next sweep was due: sweeps don't keep up.
            Rule(BACKLOG, "expired keys", 0.10, 0.05, settings.sweep_every_s + 10 * MINUTE_S, DAY_S),
            # A quarter of an hour lets a `backfill` that is at work finish.
            Rule(NO_EXPIRY, "keys without expiry", 1, 0, 15 * MINUTE_S, DAY_S),
            # The value is in intervals. Ten minutes let the sweep that runs at a start finish.
            Rule(SWEEPER, "sweeper", 2, 1, 10 * MINUTE_S, 6 * HOUR_S, "critical"),
            # One day in twenty lies above an interval that is right; a tenth above it, for six hours, is none of those.
            Rule(GROWTH, "size of the table", 1.1, 1.0, 6 * HOUR_S, DAY_S),
            # The value is how many are missing. A quarter of an hour lets a pairing write its first ones.
            Rule(PRE_KEYS, "pre-keys", 1, LOW_PRE_KEYS - PRE_KEYS_ENOUGH, 15 * MINUTE_S, 6 * HOUR_S),
            # Remembered for longer than it is told.
            Rule(BURST, "reconnect", 1, 0, 0, 2 * BURST_TOLD_FOR.total_seconds(), "information"),
            # With a tenth left there is time to make room; with nothing left no bot can write a key.
            Rule(DISK, "disk of the database", 0.90, 0.85, 5 * MINUTE_S, 6 * HOUR_S, "critical"),
        )
    }


def of_process(memory: ProcessMemory) -> Sample:
    """This service's memory, with the breakdown."""
    heap = "" if memory.heap_bytes is None else f", allocated heap {size(memory.heap_bytes)}"
    detail = (
        f"{memory.used_share:.0%} of the {size(memory.limit.size_bytes)} of {memory.limit.source}: resident "
        f"{size(memory.rss_bytes)}, of it its own {size(memory.uss_bytes)}{heap}, "
        f"Python blocks {memory.python_blocks:,}"
    )
    return Sample(MEMORY, "", memory.used_share, detail)


def of_bots(reports: Mapping[str, BotReport], firing: Collection[str], now: datetime) -> Iterator[Sample]:
    """The memory of the bots that have just reported, and of those in `firing` that report no more."""
    for company, report in reports.items():
        if now - report.reported_at <= FRESH_FOR:
            bot = report.memory
            of_total = f" ({bot.heap_used_bytes / bot.heap_total_bytes:.0%})" if bot.heap_total_bytes else ""
            detail = (
                f"heap {bot.used_share:.0%} of its limit of {size(bot.heap_limit_bytes)}: used "
                f"{size(bot.heap_used_bytes)}, of {size(bot.heap_total_bytes)} in all{of_total}, "
                f"resident {size(bot.rss_bytes)}"
            )
            yield Sample(BOT_MEMORY, company, bot.used_share, detail)
    for company in firing:
        if company not in reports or now - reports[company].reported_at > BOT_GONE_AFTER:
            yield Sample(BOT_MEMORY, company, 0.0, "it reports no more")


def of_database(database: str, error: str | None) -> Sample:
    """Whether the database answers; `error` says why not."""
    if error is None:
        return Sample(DATABASE, "", 0.0, f"{database} answers")
    return Sample(DATABASE, "", 1.0, f"no answer. {error}")


def of_loads(loads_ms: Collection[float], budget_ms: float, company: str) -> Iterator[Sample]:
    """The 95th percentile of the latest loads; nothing while there are too few."""
    if len(loads_ms) >= FEWEST_LOADS:
        p95_ms = percentile_95(loads_ms)
        detail = f"{p95_ms:,.0f} ms (95th percentile of {len(loads_ms)}), budget {budget_ms:,.0f} ms; of {company}"
        yield Sample(LOAD, "", p95_ms, detail)


def of_census(census: Census) -> Iterator[Sample]:
    """The backlog and the keys without expiry."""
    share = census.expired / census.total if census.total >= FEWEST_KEYS else 0.0
    yield Sample(BACKLOG, "", share, f"{census.expired:,} of {census.total:,} keys wait for a sweep ({share:.0%})")
    detail = f"{census.without_expiry:,} of {census.total:,} keys have none and will never be swept"
    advice = ": run `python run.py backfill`, then `backfill --enforce`"
    yield Sample(
        NO_EXPIRY, "", census.without_expiry, f"{detail}{advice}" if census.without_expiry else "every key has one"
    )


def of_sweeps(runs: list[SweepRun], sweep_every_s: float, watching_since: datetime, now: datetime) -> Sample:
    """How many intervals ago a sweep did its work; where none ever did, since when somebody could have known."""
    success = sweep_state(runs).last_success
    if success is not None and success.finished_at is not None:
        since, told = success.finished_at, "the last success was"
    else:
        since, told = min([watching_since, *(run.started_at for run in runs)]), "none succeeded; the first try was"
        if not runs:
            told = "none has run; this service started"
    ago_s = (now - since).total_seconds()
    every = f", and one is due every {duration(sweep_every_s)}"
    return Sample(SWEEPER, "", ago_s / sweep_every_s, f"{told} {duration(ago_s)} ago{every}")


def of_growth(verdicts: Iterable[JudgedForecast], now: datetime) -> Iterator[Sample]:
    """The table against what was forecast for today: a week ago, else yesterday. Nothing without a forecast."""
    told = [verdict for verdict in verdicts if abs(_due(verdict) - now) <= timedelta(hours=12)]
    for days in (7, 1):
        of_days = [verdict for verdict in told if verdict.days == days]
        if of_days:
            verdict = max(of_days, key=lambda verdict: verdict.made_at)
            detail = (
                f"{verdict.actual:,} keys; {days} days ago {verdict.low:,} to {verdict.high:,} were expected"
                if days > 1
                else f"{verdict.actual:,} keys; yesterday {verdict.low:,} to {verdict.high:,} were expected"
            )
            value = verdict.actual / verdict.high if verdict.actual >= FEWEST_KEYS and verdict.high else 0.0
            yield Sample(GROWTH, "", value, detail)
            return


def of_pre_keys(low: Mapping[str, int], firing: Collection[str]) -> Iterator[Sample]:
    """The companies with few pre-keys (`low` has all that have not enough), and those that have enough again."""
    for company, left in low.items():
        yield Sample(PRE_KEYS, company, LOW_PRE_KEYS - left, f"{left} left")
    for company in firing:
        if company not in low:
            yield Sample(
                PRE_KEYS,
                company,
                LOW_PRE_KEYS - PRE_KEYS_ENOUGH,
                f"{PRE_KEYS_ENOUGH} or more again, or its creds are gone",
            )


def of_bursts(bursts: Iterable[Burst]) -> Iterator[Sample]:
    """Each burst of pre-keys: a bot has reconnected."""
    for burst in bursts:
        if burst.key_type == "pre-key":
            detail = f"{burst.company_id} wrote {burst.keys:,} new pre-keys after {burst.at:%Y-%m-%d %H:%M} UTC"
            yield Sample(BURST, f"{burst.company_id} {burst.at:%Y-%m-%d %H}h", 1.0, detail)


def of_disk(disk: Disk) -> Sample:
    """How full the disk is; one with plenty of room isn't, whatever its share."""
    all_bytes = disk.used_bytes + disk.free_bytes
    share = disk.used_bytes / all_bytes if all_bytes else 0.0
    detail = f"{size(disk.free_bytes)} of {size(all_bytes)} are free"
    return Sample(DISK, "", share if disk.free_bytes < ROOMY_BYTES else 0.0, detail)


def percentile_95(values: Collection[float]) -> float:
    """The value that 95 of 100 don't exceed (nearest rank)."""
    return sorted(values)[ceil(0.95 * len(values)) - 1]


def _due(verdict: JudgedForecast) -> datetime:
    return verdict.made_at + timedelta(days=verdict.days)
