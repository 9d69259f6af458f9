"""The lifetimes of keys as they stand in the database, in the table `keystore_policy`.

They hold for everybody who writes keys through the database's functions. `serve` and `migrate` write them from the
settings; every other command reads them.
"""

from collections.abc import Iterable, Mapping

import structlog

from keystore.sql.link import Link, Row, Run
from keystore.ttl import NEVER, Policy, step_s

log = structlog.get_logger()


def read_policy(link: Link, sql: Mapping[str, str]) -> Policy | None:
    """Return the policy in the database; None while it has none."""
    return policy_of_rows(link.rows(sql["policy"], {}))


def write_policy(link: Link, sql: Mapping[str, str], policy: Policy) -> None:
    """Make `policy` the one in the database. A change is logged with the old and the new lifetimes."""

    def write(run: Run) -> Policy | None:
        before = policy_of_rows(run(sql["policy"], {}))
        if before != policy:
            run(sql["forget_policy"], {})
            for row in policy_rows(policy):
                run(sql["add_lifetime"], row)
        return before

    before = link.work(write)
    if before is not None and before != policy:
        log.info("policy_changed", database=link.name, old=str(before), new=str(policy))


def policy_rows(policy: Policy) -> list[dict[str, object]]:
    """Return the table's rows: exact names first, then parts of names, and last the lifetime of any other type."""
    lifetimes = [
        *((key_type, "name", ttl_s) for key_type, ttl_s in sorted(policy.by_type.items())),
        *((part, "part", ttl_s) for part, ttl_s in policy.containing),
        ("", "any", policy.default_s),
    ]
    return [
        {
            "place": place,
            "key_type": key_type,
            "matches": matches,
            "ttl_s": None if ttl_s == NEVER else float(ttl_s),
            "step_s": float(step_s(ttl_s)),
        }
        for place, (key_type, matches, ttl_s) in enumerate(lifetimes, 1)
    ]


def policy_of_rows(rows: Iterable[Row]) -> Policy | None:
    """Return the policy of rows `(key_type, matches, ttl_s)` in the order of their places; None without a row."""
    lifetimes = [(key_type, matches, NEVER if ttl_s is None else ttl_s) for key_type, matches, ttl_s in rows]
    defaults = [ttl_s for _, matches, ttl_s in lifetimes if matches == "any"]
    if not defaults:
        return None
    return Policy(
        {key_type: ttl_s for key_type, matches, ttl_s in lifetimes if matches == "name"},
        tuple((key_type, ttl_s) for key_type, matches, ttl_s in lifetimes if matches == "part"),
        defaults[0],
    )
