"""The logins of bots: with one a bot speaks to the database itself, for its own companies alone.

A login is a Postgres role that may call the functions `keystore_bot_…` and read no table. The table keystore_logins has
its companies (`functions/bots.sql`).
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keystore import ids
from keystore.errors import InvalidInput, KeystoreError, SchemaMismatch
from keystore.postgres.statements import STATEMENTS
from keystore.records import Quota
from keystore.sql.link import UPKEEP_TIMEOUT_S, RefusalError, Run

if TYPE_CHECKING:
    from keystore.postgres.link import PostgresLink

OPEN_SCHEMA = "KS004"
"""The code with which a function refuses to make a login in a schema where any role may make functions."""

SEALED_COMPANY = "KS006"
"""The code with which a function refuses a login for a company whose values are sealed."""

ROLES_FILE = Path(__file__).with_name("roles.sql")

_LOGIN = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class BotLogin:
    """A login, its companies, and whether its role still exists."""

    login: str
    companies: tuple[str, ...]
    created_at: datetime
    exists: bool


@dataclass(frozen=True, repr=False)
class MadeLogin:
    """A login with its password and address. The password is None when the login existed before."""

    login: str
    companies: tuple[str, ...]
    password: str | None
    address: str | None


def login_of(companies: Iterable[str]) -> str:
    """Return the usual name of a login for these companies: `bot_962302`."""
    first = ids.canonical_company(next(iter(companies)))
    return f"bot_{re.sub('[^a-z0-9_]', '_', first.lower())}"[:63]


def checked_login(login: str) -> str:
    """Return `login`. Raises InvalidInput unless it is a role's name that needs no quotes."""
    if not _LOGIN.fullmatch(login) or login.startswith("pg_"):
        raise InvalidInput(f"login: {login!r} is not 1-63 characters of a-z 0-9 _, or begins with a digit or pg_")
    return login


class BotLogins:
    """Makes, lists and ends the logins in one database. It needs the role that owns the tables, with CREATEROLE."""

    def __init__(self, link: "PostgresLink") -> None:
        self._link = link

    def add(self, login: str, companies: Iterable[str], quota: Quota) -> MadeLogin:
        """Give companies to a login, and make the role if there is none.

        Raises InvalidInput when a role of that name is no bot's or a company's values are sealed, and KeystoreError
        when this role may make none.
        """
        name, wanted = self._checked(login, companies)
        password, verifier = self._new_password(name)

        def add(run: Run) -> bool:
            ((is_role, is_login),) = run(STATEMENTS["login_state"], {"login": name})
            if is_role and not is_login:
                raise InvalidInput(f"{self._link.name}: the role {name} is no bot's; choose another name with --login")
            for number, company in enumerate(wanted):
                new = None if is_role or number else verifier
                run(STATEMENTS["add_login"], {"login": name, "verifier": new, "company_id": company, **_limits(quota)})
            return bool(is_role)

        try:
            existed = self._link.work(add)
        except RefusalError as error:
            if error.reason == SEALED_COMPANY:
                raise InvalidInput(
                    f"{self._link.name}: the values of {error.details['company']} are sealed, and a bot with a login "
                    "of its own has no secret key for them; export the company, purge it, make the login, and import it"
                ) from None
            if error.reason != OPEN_SCHEMA:
                raise
            schema = error.details["schema"]
            raise KeystoreError(
                f"{self._link.name}: any role may make functions in the schema {schema}, so a bot could change ours; "
                f"run REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"
            ) from None
        except SchemaMismatch as error:
            raise KeystoreError(
                f"{error}. Or have a superuser run the statements of `role create … --print`"
            ) from error
        if existed:
            return MadeLogin(name, wanted, None, None)
        return MadeLogin(name, wanted, password, self._link.address_for(name, password))

    def statements(self, login: str, companies: Iterable[str], quota: Quota) -> tuple[MadeLogin, str]:
        """Return what `add` would do as SQL, for a role that may make logins, without doing it."""
        name, wanted = self._checked(login, companies)
        password, verifier = self._new_password(name)
        lines = [
            f"SELECT keystore_add_login('{name}', {_quoted(verifier if not number else None)}, '{company}', "
            f"{quota.keys}, {quota.value_bytes});"
            for number, company in enumerate(wanted)
        ]
        return MadeLogin(name, wanted, password, self._link.address_for(name, password)), "\n".join(lines)

    def service_roles(self, service: str, monitor: str) -> str:
        """Return the SQL that makes a role for `serve` and one for a monitor, with exactly what each needs."""
        ((schema,),) = self._link.rows(STATEMENTS["own_schema"], {}, UPKEEP_TIMEOUT_S)
        text = ROLES_FILE.read_text(encoding="utf-8")
        names = {"service": checked_login(service), "monitor": checked_login(monitor), "schema": schema}
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def all(self) -> list[BotLogin]:
        """Return every login, sorted."""
        rows = self._link.rows(STATEMENTS["logins"], {}, UPKEEP_TIMEOUT_S)
        return [
            BotLogin(login, tuple(companies), created_at.astimezone(UTC), exists)
            for login, companies, created_at, exists in rows
        ]

    def end(self, login: str) -> str:
        """Take everything from a login, at once, and drop its role if this role may.

        Returns what became of the role: `dropped`, `kept` or `absent`. Raises InvalidInput without such a login.
        """
        outcome = self._link.work(lambda run: run(STATEMENTS["end_login"], {"login": checked_login(login)})[0][0])
        if outcome is None:
            raise InvalidInput(f"{self._link.name}: there is no login {login}; `role list` shows them")
        return str(outcome)

    @staticmethod
    def _checked(login: str, companies: Iterable[str]) -> tuple[str, tuple[str, ...]]:
        return checked_login(login), tuple(dict.fromkeys(ids.canonical_company(company) for company in companies))

    def _new_password(self, login: str) -> tuple[str, str]:
        """Return a new password, and the form of it that the server may see: it could write a password to its log."""
        password = secrets.token_urlsafe(24)
        return password, self._link.scram_verifier(login, password)


def _limits(quota: Quota) -> dict[str, int]:
    return {"most_keys": quota.keys, "most_bytes": quota.value_bytes}


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else f"'{text}'"
