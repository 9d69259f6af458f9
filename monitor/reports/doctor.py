"""The `doctor` report: the obstacles to a sound installation, and advice on each."""

import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from keystore.baileys import KEY_TYPES
from keystore.errors import KeystoreError
from keystore.ids import is_named
from keystore.invocation import command
from keystore.store import Store
from keystore.tally import PROBE_COMPANY
from keystore.ttl import UNDELIVERED_DAYS, Policy
from monitor.reports.check import Verdict, mis_split_advice
from monitor.reports.formatting import counted

Status = Literal["ok", "warning", "failed"]
Result = tuple[Status, str]
"""The status and the detail of a check."""

CLOCK_SKEW_S = 5.0

NOT_DURABLE = (
    "synchronous_commit is off: acknowledged writes are lost when the server crashes. Find where it is set (server, "
    "database or role), and run `ALTER ROLE the_role SET synchronous_commit = on`"
)


@dataclass(frozen=True)
class DoctorCheck:
    """One check: its status, and what to do if it isn't ok."""

    name: str
    status: Status
    detail: str

    @property
    def verdict(self) -> Verdict:
        """The status in the words that all reports share."""
        return "critical" if self.status == "failed" else self.status


@dataclass(frozen=True)
class DoctorReport:
    """All checks."""

    checks: tuple[DoctorCheck, ...]

    @property
    def healthy(self) -> bool:
        """True if no check failed; warnings may remain."""
        return all(check.status != "failed" for check in self.checks)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks."""
        verdicts = {check.verdict for check in self.checks}
        return "critical" if "critical" in verdicts else "warning" if "warning" in verdicts else "ok"


def examine(
    open_store: Callable[[], Store],
    policy: Policy,
    *,
    guard: bool,
    telegram: Result,
    more: Callable[[Store], dict[str, Result]] = lambda _: {},
) -> DoctorReport:
    """Make every check, even if an earlier one fails; `telegram` is the result of `check_bot`, and `more` are checks
    that need the store."""
    short_lived = [name for name in KEY_TYPES if policy.ttl_s(name) <= UNDELIVERED_DAYS * 86_400]
    results = {
        "ttl": _result(
            not short_lived,
            f"no key expires within the {UNDELIVERED_DAYS} days that WhatsApp keeps messages",
            f"WhatsApp's servers keep undelivered messages for {UNDELIVERED_DAYS} days, and keys of these types may be "
            f"deleted earlier: {', '.join(short_lived)}. Set KEYSTORE_TTL=careful to keep them longer",
        ),
        "guard": _result(
            guard,
            "no sweep deletes a key that can't be replaced",
            "KEYSTORE_GUARD is off: sync keys and current pre-keys are swept when they expire",
        ),
        "telegram": telegram,
    }
    try:
        with open_store() as store:
            results |= _database(store)
            in_force = store.policy
            results["lifetimes"] = _result(
                in_force == policy,
                "the database has the lifetimes of KEYSTORE_TTL",
                f"KEYSTORE_TTL is {policy}, and the database's lifetimes are {in_force}; `{command('serve')}` or "
                f"`{command('migrate')}` writes those of KEYSTORE_TTL",
            )
            results |= more(store)
    except KeystoreError as error:
        results["database"] = "failed", str(error)
    return DoctorReport(tuple(DoctorCheck(name, *result) for name, result in results.items()))


def _database(store: Store) -> dict[str, Result]:
    began = datetime.now(UTC)
    skew_s = abs((store.now() - began).total_seconds())
    try:
        store.probe_write()
        writes: Result = "ok", "the database takes writes"
    except KeystoreError as error:
        writes = "failed", f"no bot can save a key: {error}"
    census = store.census()
    companies = counted(census.companies, "company", "companies")
    mis_split = mis_split_advice(census)
    results: dict[str, Result] = {
        "writes": writes,
        "database": ("ok", f"{store.database}: {counted(census.total, 'key')} of {companies}"),
        "clock": _result(
            skew_s <= CLOCK_SKEW_S,
            f"this machine and the database agree within {skew_s:.1f} s",
            f"this machine and the database differ by {skew_s:.0f} s; set up NTP on both",
        ),
        "schema": _result(
            store.converted,
            "all migrations are applied",
            f"only the watch is attached; `{command('migrate')}`, with the bot stopped, converts the values. Until "
            "then a backfill counts as the bot's activity (its trigger sets updated_at), and keeps pre-keys it fills",
        ),
        "durability": (
            ("ok", "the database waits for its disk before it acknowledges a write")
            if store.durable
            else ("failed", NOT_DURABLE)
        ),
        "expiry": _result(
            not census.without_expiry,
            f"every key has one; `{command('backfill --enforce')}` makes the database keep it so",
            f"{census.without_expiry:,} keys have none; run `{command('backfill --enforce')}`",
        ),
    }
    companies_stored = store.companies() if store.converted else []
    unnamed = [company for company in companies_stored if company != PROBE_COMPANY and not is_named(company)]
    if unnamed:
        results["companies"] = (
            "warning",
            f"{counted(len(unnamed), 'company', 'companies')} can't be named by any command ({unnamed[0]!a} for one): "
            "with the bots stopped, give each another company_id in whatsapp_keys and whatsapp_auth, with 1-64 "
            "characters of A-Z a-z 0-9 _ - and no company_ before them",
        )
    if mis_split is not None:
        results["types"] = "warning", mis_split
    if store.converted:
        results["sealing"] = _sealing(store)
    if store.expiry_enforced:
        results["expiry"] = "ok", "the database refuses keys without expiry"
    if store.database.startswith("sqlite:///"):
        path = Path(store.database.removeprefix("sqlite:///"))
        results["file"] = _result(
            not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO),
            f"only its owner may read {path}",
            f"{path} holds private keys and others may read it; run `chmod 600 {path}`",
        )
    return results


def _sealing(store: Store) -> Result:
    is_file = store.database.startswith("sqlite:///")
    if store.sealing == "locked":
        return (
            "warning",
            "values are sealed, and the secret key isn't here: set KEYSTORE_SECRET_KEYS as the service has it",
        )
    if store.sealing == "off":
        if is_file:
            return "ok", "values are stored in clear, in a file for its owner alone; KEYSTORE_SECRET_KEYS seals them"
        sealed_by_bots = len(store.companies_sealed_by_bots())
        in_clear = len(store.companies()) - sealed_by_bots
        if sealed_by_bots and not in_clear:
            return "ok", "the bots seal the values of every company themselves (docs/sealing.md)"
        companies = f" of {counted(in_clear, 'company', 'companies')}" if sealed_by_bots else ""
        return "warning", (
            f"private keys{companies} are stored in clear, so a dump or a backup of the database gives them away: set "
            f"KEYSTORE_SECRET_KEYS, and run `{command('rotate')}`, or let the bots seal their values (docs/sealing.md)"
        )
    plain = sum(map(store.unsealed_values, store.companies_to_rotate()))
    return _result(
        not plain, "every value is sealed", f"{counted(plain, 'value')} not sealed yet; run `{command('rotate')}`"
    )


def _result(sound: bool, detail: str, advice: str) -> Result:
    return ("ok", detail) if sound else ("warning", advice)
