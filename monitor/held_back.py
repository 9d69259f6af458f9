"""The companies that a scheduled sweep holds back, because it would delete an unusual share of their sessions. Pure.

A clock that jumps ahead, and a week in which no bot ran, make nearly all sessions due at once. In ordinary operation a
sweep takes a few of them. An operator decides, and runs a sweep by hand, which holds nothing back.

Where the service has seen the clock jump, it holds everything back for as long as the clock jumped. Then each key has
had its whole lifetime.
"""

from collections.abc import Sequence
from datetime import timedelta

from keystore.records import DueSessions, SweepRun

MOST_SHARE = 0.5
"""The share of its sessions that a company may lose in one scheduled sweep."""

LONGEST_LEAD = timedelta(days=1)
"""The lead of a clock from which on nothing is deleted. A shorter one takes little from a lifetime of weeks."""

FEWEST_SESSIONS = 20
"""Number of due sessions below which a share means nothing: a bot with three contacts often loses two at once."""

NAMED_COMPANIES = 5
"""Number of companies that a message names."""

HELD_BACK = "held back "
"""The beginning of the error of a run that held companies back."""


def losing_most(due: Sequence[DueSessions]) -> tuple[DueSessions, ...]:
    """Return the companies that would lose an unusual share of their sessions, the largest loss first.

    The companies are also judged as a whole: a clock that jumped takes all sessions of many small companies.
    """
    together = DueSessions("", sum(company.due for company in due), sum(company.total for company in due))
    losing = due if _is_unusual(together) else [company for company in due if _is_unusual(company)]
    return tuple(sorted(losing, key=lambda company: (-company.due, company.company_id)))


def in_words(companies: Sequence[DueSessions], verb: str) -> str:
    """Return the companies with their numbers: `1 company would lose most of its sessions at once: a (40 of 40)`."""
    named = [f"{each.company_id} ({each.due:,} of {each.total:,})" for each in companies[:NAMED_COMPANIES]]
    if len(companies) > len(named):
        named.append(f"and {len(companies) - len(named):,} more")
    count, possessive = (f"{len(companies):,} companies", "their") if len(companies) > 1 else ("1 company", "its")
    return f"{count} {verb} most of {possessive} sessions at once: {', '.join(named)}"


def error_of(companies: Sequence[DueSessions]) -> str:
    """Return the error to record for a sweep that held these companies back."""
    return HELD_BACK + in_words(companies, "that would lose")


def error_of_clock(lead: timedelta) -> str:
    """Return the error to record for a sweep that was held back because the clock went ahead."""
    return (
        f"{HELD_BACK}everything: the database's clock went {lead / timedelta(days=1):.0f} days ahead at once, so keys "
        "seem older than they are"
    )


def has_held_back(run: SweepRun) -> bool:
    """Return True for a sweep that held companies back, and swept all others."""
    return run.error is not None and run.error.startswith(HELD_BACK)


def _is_unusual(sessions: DueSessions) -> bool:
    return sessions.due >= FEWEST_SESSIONS and sessions.due > MOST_SHARE * sessions.total
