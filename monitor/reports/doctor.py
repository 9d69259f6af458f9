"""The `doctor` report: what stands in the way of a sound installation, and what to do about it."""

import re
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from keystore.baileys import KEY_TYPES
from keystore.errors import KeystoreError
from keystore.store import Store
from keystore.ttl import UNDELIVERED_DAYS, Policy
from monitor.telegram.client import TelegramAccess, TelegramClient
from monitor.telegram.errors import TelegramError, TelegramUnavailable

Status = Literal["ok", "warning", "failed"]

CLOCK_SKEW_S = 5.0
TELEGRAM_WITHIN_S = 8.0
_TOKEN = re.compile(r"\d{5,}:[A-Za-z0-9_-]{30,}")


@dataclass(frozen=True)
class DoctorCheck:
    """One thing looked at: how it stands, and what to do where it isn't well."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True)
class DoctorReport:
    """Everything looked at. `healthy`: nothing failed."""

    checks: tuple[DoctorCheck, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; warnings may remain."""
        return all(check.status != "failed" for check in self.checks)


def examine(
    opened: Callable[[], Store], policy: Policy, *, guard: bool, telegram: TelegramAccess | None
) -> DoctorReport:
    """Looks at everything, whatever fails on the way; asks Telegram who the bot is."""
    checks = [_policy(policy), _guard(guard), _telegram(telegram)]
    try:
        with opened() as store:
            checks += _database(store)
    except KeystoreError as error:
        checks.append(DoctorCheck("database", "failed", str(error)))
    return DoctorReport(tuple(checks))


def _database(store: Store) -> list[DoctorCheck]:
    began = datetime.now(UTC)
    now = store.now()
    census = store.census()
    skew_s = abs((now - began).total_seconds())
    checks = [
        DoctorCheck("database", "ok", f"{store.database}: {census.total} keys, companies: {census.companies}"),
        DoctorCheck("clock", "ok", f"this machine and the database agree within {skew_s:.1f} s")
        if skew_s <= CLOCK_SKEW_S
        else DoctorCheck(
            "clock", "warning", f"this machine and the database differ by {skew_s:.0f} s; set up NTP on both"
        ),
    ]
    if not store.converted:
        detail = (
            "only the watch is attached; `python run.py migrate`, with the bot stopped, converts the values. Until "
            "then a backfill counts as the bot's activity (its trigger sets updated_at), and keeps pre-keys it fills"
        )
        checks.append(DoctorCheck("schema", "warning", detail))
    else:
        checks.append(DoctorCheck("schema", "ok", "all migrations are applied"))
    if store.expiry_enforced:
        checks.append(DoctorCheck("expiry", "ok", "the database refuses keys without expiry"))
    elif census.without_expiry:
        detail = f"{census.without_expiry} keys have none; run `python run.py backfill --enforce`"
        checks.append(DoctorCheck("expiry", "warning", detail))
    else:
        detail = "every key has one; `python run.py backfill --enforce` makes the database keep it so"
        checks.append(DoctorCheck("expiry", "ok", detail))
    return checks + _file(store.database)


def _file(database: str) -> list[DoctorCheck]:
    if not database.startswith("sqlite:///"):
        return []
    path = Path(database.removeprefix("sqlite:///"))
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [
            DoctorCheck("file", "warning", f"{path} holds private keys and others may read it; run `chmod 600 {path}`")
        ]
    return [DoctorCheck("file", "ok", f"{path} is its owner's alone")]


def _policy(policy: Policy) -> DoctorCheck:
    short = [name for name in KEY_TYPES if policy.ttl_s(name) <= UNDELIVERED_DAYS * 86_400]
    if not short:
        return DoctorCheck("ttl", "ok", f"no key goes within the {UNDELIVERED_DAYS} days that WhatsApp keeps messages")
    return DoctorCheck(
        "ttl",
        "warning",
        f"WhatsApp's servers keep undelivered messages for {UNDELIVERED_DAYS} days, and these keys may go before they "
        f"arrive: {', '.join(short)}. KEYSTORE_TTL=careful keeps each longer",
    )


def _guard(guard: bool) -> DoctorCheck:
    if guard:
        return DoctorCheck("guard", "ok", "keys that can't be had again are kept from the sweep")
    return DoctorCheck(
        "guard", "warning", "KEYSTORE_GUARD is off: sync keys and current pre-keys are swept when they expire"
    )


def _telegram(telegram: TelegramAccess | None) -> DoctorCheck:
    if telegram is None:
        return DoctorCheck("telegram", "ok", "not set up")
    if not _TOKEN.fullmatch(telegram.token):
        return DoctorCheck(
            "telegram", "failed", "TELEGRAM_BOT_TOKEN doesn't look like a token; copy it from @BotFather anew"
        )
    with closing(TelegramClient(telegram.token, telegram.api_url, deadline_s=TELEGRAM_WITHIN_S)) as api:
        try:
            name = api.get_me()
        except TelegramUnavailable as error:
            return DoctorCheck("telegram", "warning", f"Telegram wasn't reached, so the token was not tried: {error}")
        except TelegramError as error:
            return DoctorCheck("telegram", "failed", str(error))
    if not telegram.chats:
        return DoctorCheck(
            "telegram", "warning", f"@{name} answers nobody and alerts nobody: TELEGRAM_CHAT_ID is not set"
        )
    return DoctorCheck("telegram", "ok", f"@{name} answers and alerts so many chats: {len(telegram.chats)}")
