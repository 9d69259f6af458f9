"""The lifetimes of keys as they stand in the database, in the table `keystore_policy`.

They hold for everybody who writes keys through the database's functions. `serve` and `migrate` write them from the
settings; every other command reads them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from keystore.sql.link import Link, Row, Run
from keystore.ttl import NEVER, Policy, step_s

log = structlog.get_logger()


def read_policy(link: Link, sql: Mapping[str, str]) -> Policy | None:
    """Return the policy in the database; None while it has none."""
    return policy_of_rows(link.rows(sql["policy"], {}))


def write_policy(link: Link, sql: Mapping[str, str], policy: Policy, now: Any = None) -> None:
    """Make `policy` the one in the database. A change is logged with the old and the new lifetimes.

    A lifetime that becomes longer while there are keys is marked with the time `now`, as a parameter of the database;
    None reads its clock. (No key is due by an expiry that a shorter lifetime made.)
    """

    def write(run: Run) -> Policy | None:
        stored = run(sql["policy"], {})
        before = policy_of_rows(stored)
        if before == policy:
            return before
        has_keys = before is not None and bool(run(sql["any_key"], {}))
        run(sql["forget_policy"], {})
        for row in policy_rows(policy):
            run(sql["add_lifetime"], row)
            former = row_of(stored, row["key_type"]) if row["matches"] != "any" else stored and stored[-1]
            _, _, ttl_s, lengthened_at = former or (None, None, None, None)
            longer = has_keys and (row["ttl_s"] or NEVER) > (ttl_s or NEVER)
            run(sql["set_lengthened"], {**row, "longer": longer, "lengthened_at": lengthened_at, "now": now})
        return before

    before = link.work(write)
    if before is not None and before != policy:
        log.info("policy_changed", database=link.name, old=str(before), new=str(policy))


def row_of(rows: Iterable[Row], key_type: str) -> Row | None:
    """Return the row that has the lifetime of a type: the first that matches it, in the order of their places."""
    for row in rows:
        if {"name": row[0] == key_type, "part": row[0] in key_type, "any": True}[row[1]]:
            return row
    return None


def policy_rows(policy: Policy) -> list[dict[str, Any]]:
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
    """Return the policy of rows `(key_type, matches, ttl_s, …)` in the order of their places; None without a row."""
    lifetimes = [(key_type, matches, NEVER if ttl_s is None else ttl_s) for key_type, matches, ttl_s, *_ in rows]
    defaults = [ttl_s for _, matches, ttl_s in lifetimes if matches == "any"]
    if not defaults:
        return None
    return Policy(
        {key_type: ttl_s for key_type, matches, ttl_s in lifetimes if matches == "name"},
        tuple((key_type, ttl_s) for key_type, matches, ttl_s in lifetimes if matches == "part"),
        defaults[0],
    )
