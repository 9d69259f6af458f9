"""Samples: measurements as values that a rule judges, with a sentence about each. Pure.

Some measurements are rare (a census of a large table), and so are their samples: the rules allow for that.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil

from keystore.invocation import command
from keystore.records import Burst, Census, SweepRun
from monitor.alerts import rules
from monitor.alerts.decisions import Sample
from monitor.alerts.memory import FRESH_FOR, BotReport, ProcessMemory
from monitor.alerts.rules import LOW_PRE_KEYS, PRE_KEYS_ENOUGH
from monitor.forecast.backtest import JudgedForecast
from monitor.reports.check import sweep_state
from monitor.reports.formatting import duration, size

FEWEST_LOADS = 5
"""Timed loads below which their 95th percentile means nothing."""

FEWEST_KEYS = 100
"""Size of a table below which shares of it mean nothing."""

BOT_GONE_AFTER = timedelta(hours=1)
"""A bot that has reported nothing for this long has ended, and its memory with it."""

ROOMY_BYTES = 5_000_000_000
"""Free space at which a disk isn't nearly full, at any share: an embedded key store has some hundred MB."""


def of_process(memory: ProcessMemory) -> Sample:
    """This service's memory, with the breakdown."""
    heap = "" if memory.heap_bytes is None else f", allocated heap {size(memory.heap_bytes)}"
    detail = (
        f"{memory.used_share:.0%} of the {size(memory.limit.size_bytes)} of {memory.limit.source}: resident "
        f"{size(memory.rss_bytes)}, of it its own {size(memory.uss_bytes)}{heap}, "
        f"Python blocks {memory.python_blocks:,}"
    )
    return Sample(rules.MEMORY, "", memory.used_share, detail)


def of_bots(reports: Mapping[str, BotReport], firing: Collection[str], now: datetime) -> Iterator[Sample]:
    """The memory of bots that reported just now, and of bots in `firing` that have stopped reporting."""
    for company, report in reports.items():
        if now - report.reported_at <= FRESH_FOR:
            bot = report.memory
            of_total = f" ({bot.heap_used_bytes / bot.heap_total_bytes:.0%})" if bot.heap_total_bytes else ""
            detail = (
                f"heap {bot.used_share:.0%} of its limit of {size(bot.heap_limit_bytes)}: used "
                f"{size(bot.heap_used_bytes)}, of {size(bot.heap_total_bytes)} in all{of_total}, "
                f"resident {size(bot.rss_bytes)}"
            )
            yield Sample(rules.BOT_MEMORY, company, bot.used_share, detail)
    for company in firing:
        if company not in reports or now - reports[company].reported_at > BOT_GONE_AFTER:
            yield Sample(rules.BOT_MEMORY, company, 0.0, "it reports no more")


def of_database(database: str, error: str | None) -> Sample:
    """The database's availability; `error` is the reason when it doesn't answer."""
    if error is None:
        return Sample(rules.DATABASE, "", 0.0, f"{database} answers")
    return Sample(rules.DATABASE, "", 1.0, f"no answer. {error}")


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
    lacking = (
        f"{census.without_expiry:,} of {census.total:,} keys have none and will never be swept: "
        f"run `{command('backfill')}`, then `backfill --enforce`"
    )
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


def of_bursts(bursts: Iterable[Burst], now: datetime) -> Iterator[Sample]:
    """Each burst of pre-keys: a bot has reconnected. One in the future is from before the clock was set back."""
    for burst in bursts:
        if burst.key_type == "pre-key" and burst.at <= now:
            detail = f"{burst.company_id} wrote {burst.keys:,} new pre-keys after {burst.at:%Y-%m-%d %H:%M} UTC"
            yield Sample(rules.BURST, f"{burst.company_id} {burst.at:%Y-%m-%d %H}h", 1.0, detail)


def of_disk(used_bytes: int, free_bytes: int) -> Sample:
    """The used share of the disk below an embedded database; `free_bytes` are those an ordinary process may use."""
    all_bytes = used_bytes + free_bytes
    share = used_bytes / all_bytes if all_bytes else 0.0
    detail = f"{size(free_bytes)} of {size(all_bytes)} are free"
    return Sample(rules.DISK, "", share if free_bytes < ROOMY_BYTES else 0.0, detail)
