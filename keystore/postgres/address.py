"""Reads a Postgres address. libpq decides what it means; parameters of other programs are applied or passed over.

Prisma's addresses carry such parameters, and its projects put them into DATABASE_URL. Before libpq reads an address it
is made sure that the password can be told from the rest, because host and database are shown in messages.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from keystore.errors import InvalidInput

PASSED_OVER = frozenset(
    {"pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size", "sslaccept"}
)
"""Parameters of Prisma's that set its own pool and driver. They change nothing about which database it is."""

SCHEMA = "schema"
"""Prisma's name for the schema of the tables, which libpq knows as an option: search_path."""

NOT_AN_ADDRESS = (
    "not a Postgres address; expected postgresql://user:password@host:5432/database, "
    "with @ / : # ? in user or password percent-encoded"
)

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Address:
    """A database's address: libpq's parameters, and its name, which holds no secret."""

    params: Mapping[str, Any] = field(repr=False)
    name: str
    passed_over: tuple[str, ...]
    """The names of the parameters that don't count here."""


def read_address(url: str, known: Collection[str], parse: Callable[[str], dict[str, Any]]) -> Address:
    """Read an address. Raises InvalidInput, which names the part that is wrong and shows no password.

    `known` are the names of libpq's parameters. `parse` is its parser, which raises ValueError.
    """
    login, place, query = _parts(url)
    parts = {"user or password": login, "host or database": place}
    for_libpq, passed_over, schema = [], [], ""
    for parameter in query.split("&") if query else []:
        name, equals, value = parameter.partition("=")
        parts[f"parameter {name}"] = value
        if not equals:
            raise InvalidInput(f"database address: parameter {name!r} has no value; write {name}=…")
        if name == SCHEMA:
            schema = unquote(value)
        elif name in PASSED_OVER:
            passed_over.append(name)
        elif name in known:
            for_libpq.append(parameter)
        else:
            close = difflib.get_close_matches(name, [*known, *PASSED_OVER, SCHEMA], n=1)
            meant = f"; did you mean {close[0]}?" if close else "; remove it"
            raise InvalidInput(f"database address: Postgres has no parameter {name!r}{meant}")
    for part, text in parts.items():
        if _BAD_PERCENT.search(text):
            raise InvalidInput(f"database address: {part}: a % there begins no percent-encoding; write it as %25")
    try:
        params = parse("postgresql://" + login + place + ("?" + "&".join(for_libpq) if for_libpq else ""))
    except ValueError:  # Its message may quote a part of the password.
        raise InvalidInput(f"database address: {NOT_AN_ADDRESS}") from None
    for port in filter(None, str(params.get("port", "")).split(",")):
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise InvalidInput(f"database address: the port is no number from 1 to 65535; {NOT_AN_ADDRESS}")
    if schema in ("", "public"):
        passed_over += [SCHEMA] if schema else []
    else:
        params["options"] = f"{params.get('options', '')} -csearch_path={_option_value(schema)}".strip()
    return Address(params, _name(params), tuple(passed_over))


def _parts(url: str) -> tuple[str, str, str]:
    """Return the login with its @, the host and database, and the query, split where libpq splits them."""
    text = url.strip().partition("://")[2]
    before_path = re.match(r"[^@/]*@", text)
    login = before_path[0] if before_path else ""
    place, _, query = text.removeprefix(login).partition("?")
    if "@" in place or (not login and "@" in query):
        raise InvalidInput(f"database address: {NOT_AN_ADDRESS}")
    return login, place, query


def _name(params: Mapping[str, Any]) -> str:
    """Return hosts, ports and database: `postgresql://db.example:5432/bots`."""
    hosts = str(params.get("host") or params.get("hostaddr") or "").split(",")
    ports = str(params.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    shown = [
        "local socket"
        if not host or host.startswith("/")
        else (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    ]
    return f"postgresql://{','.join(shown)}/{params.get('dbname', '')}"


def _option_value(schema: str) -> str:
    """Return a schema's name, quoted as an identifier, as a value in libpq's `options`."""
    identifier = '"' + schema.replace('"', '""') + '"'
    return re.sub(r"([\\\s])", r"\\\1", identifier)


def address_for_login(params: Mapping[str, Any], login: str, password: str) -> str:
    """Return the address of the database with these libpq parameters for another login, with its password."""
    hosts = str(params.get("host") or "localhost").split(",")
    ports = str(params.get("port") or "5432").split(",")
    ports += ports[-1:] * (len(hosts) - len(ports))
    options = {name: params[name] for name in ("sslmode", "sslrootcert", "options") if params.get(name)}
    if hosts[0].startswith("/"):  # The folder of a socket can't stand where a host does.
        options |= {"host": ",".join(hosts), "port": ",".join(ports)}
        place = ""
    else:
        named = (f"[{host}]" if ":" in host else host for host in hosts)
        place = ",".join(f"{host}:{port}" for host, port in zip(named, ports, strict=True))
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())
    database = quote(str(params.get("dbname") or params.get("user") or login), safe="")
    return f"postgresql://{login}:{quote(password, safe='')}@{place}/{database}{query and f'?{query}'}"
