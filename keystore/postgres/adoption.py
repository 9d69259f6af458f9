"""Looks at a bot's own tables before `migrate` converts them, which is one-way, and says everything that is in the way.

The tables may have columns, constraints and triggers with which the store can't write, ids of companies that no command
can name, and values that no Baileys reads. Each is refused together with the statement or option that ends it. Values
that are only wrapped (JSON in a string, MongoDB's `$binary`) are unwrapped in the same transaction.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keystore import ids
from keystore.errors import InvalidInput, SchemaMismatch
from keystore.sql.statements import read_statements
from keystore.values.fitting import OTHER_BUFFER, FittedValue, fitted, is_nothing

STATEMENTS = read_statements(Path(__file__).with_name("adoption.sql"))

MOST_NAMED = 3
"""The most rows and companies that a refusal names."""

MOST_LISTED = 1_000
"""The most odd values that a report lists."""

ROWS_AT_A_TIME = 500

CREDS = ("", "")


@dataclass(frozen=True)
class AdoptionChoices:
    """An operator's decisions: new ids of companies by their old ones, and whether to keep odd values as they are."""

    renames: Mapping[str, str] = field(default_factory=dict)
    keep_odd: bool = False


NO_CHOICES = AdoptionChoices()


@dataclass(frozen=True)
class AdoptionReport:
    """A look at a bot's tables. `problems` are (problem, remedy); with any of them nothing is changed.

    `unnamable` are companies that no command could reach, each with an id that is free. `unwrapped` counts the values
    that each wrapping is taken off. `odd` are (name of a key, reason) of values that no Baileys reads, `odd_values` of
    them; the first are listed.
    """

    problems: tuple[tuple[str, str], ...] = ()
    unnamable: Mapping[str, str] = field(default_factory=dict)
    unwrapped: Mapping[str, int] = field(default_factory=dict)
    odd: tuple[tuple[str, str], ...] = ()
    odd_values: int = 0

    def refusal(self, choices: AdoptionChoices) -> str:
        """Everything that is in the way, in one line; empty if nothing is."""
        parts = [f"{problem} ({remedy})" for problem, remedy in self.problems]
        if self.unnamable:
            examples = " ".join(f"--rename {old!r}={new}" for old, new in [*self.unnamable.items()][:MOST_NAMED])
            parts.append(
                f"{len(self.unnamable)} companies have ids that no command could name; give each a new one, such as "
                f"{examples} (--dry-run lists all)"
            )
        if self.odd_values and not choices.keep_odd:
            examples = "; ".join(f"{name}: {reason}" for name, reason in self.odd[:MOST_NAMED])
            parts.append(
                f"{self.odd_values} values are none that Baileys reads ({examples}); correct or delete them, or keep "
                "them as they are with --keep-odd"
            )
        return "; ".join(f"{number}. {part}" for number, part in enumerate(parts, 1))


class _Tables:
    """The bot's tables on a connection: those of `keys` and `creds` that are there."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        rows = self.rows("tables")
        self.names = tuple("keys" if is_keys else "creds" for is_keys, _ in rows)
        self._unconverted = tuple("keys" if is_keys else "creds" for is_keys, unconverted in rows if unconverted)

    def rows(self, statement: str, **params: str) -> list[Any]:
        """Run a statement; return its rows."""
        cursor = self._connection.execute(STATEMENTS[statement], params)
        return list(cursor.fetchall()) if cursor.description else []

    def run_many(self, statement: str, rows: list[dict[str, str]]) -> None:
        """Run a statement once for each row of parameters."""
        with self._connection.cursor() as cursor:
            cursor.executemany(STATEMENTS[statement], rows)

    def values(self) -> Iterator[tuple[str, tuple[str, str], FittedValue | str]]:
        """Yield each value that isn't bytes yet, with its company and name: as Baileys reads it, or why it can't."""
        for table in self._unconverted:
            with self._connection.cursor(name="adoption") as cursor:
                cursor.itersize = ROWS_AT_A_TIME
                cursor.execute(STATEMENTS["key_values" if table == "keys" else "creds_values"], {})
                for company, key_type, key_id, text in cursor:
                    yield company, (key_type, key_id), _fitted((key_type, key_id), text, is_key=table == "keys")


def _fitted(name: tuple[str, str], text: str, *, is_key: bool) -> FittedValue | str:
    try:
        if is_key:
            ids.checked_writes({name[0]: {name[1]: b"-"}})
        content = text.encode()
        return FittedValue(content) if is_key and is_nothing(content) else fitted(name, content)
    except InvalidInput as error:
        return str(error)


def look(connection: Any, choices: AdoptionChoices) -> AdoptionReport:
    """Look at the tables, and change nothing. Raises InvalidInput if the choices don't fit them."""
    tables = _Tables(connection)
    problems = tables.rows("problems") or [
        problem for table in tables.names for problem in tables.rows(f"{table}_in_the_way")
    ]
    if problems:
        return AdoptionReport(tuple(problems))
    companies = sorted({row[0] for table in tables.names for row in tables.rows(f"companies_of_{table}")})
    _check_renames(companies, choices.renames)
    unwrapped: Counter[str] = Counter()
    odd: list[tuple[str, str]] = []
    odd_values = 0
    for company, name, result in tables.values():
        if isinstance(result, FittedValue):
            unwrapped.update(result.wrappings - {OTHER_BUFFER})
            continue
        odd_values += 1
        if len(odd) < MOST_LISTED:
            odd.append((f"{' '.join(name) if name != CREDS else 'creds'} of {company}", result))
    return AdoptionReport((), _unnamable(companies, choices.renames), dict(unwrapped), tuple(odd), odd_values)


def prepare(connection: Any, database: str, choices: AdoptionChoices) -> AdoptionReport:
    """Look at the tables, then rename companies and unwrap values in the caller's transaction.

    Raises SchemaMismatch that says everything in the way, before it changes anything.
    """
    tables = _Tables(connection)
    tables.rows("lock")
    for table in tables.names:
        tables.rows(f"lock_{table}")
    report = look(connection, choices)
    refusal = report.refusal(choices)
    if refusal:
        raise SchemaMismatch(f"{database}: nothing was changed; before these tables can be converted: {refusal}")
    if choices.renames or report.unwrapped:
        for table in tables.names:
            tables.rows(f"{table}_triggers_off")
        if report.unwrapped:
            _unwrap(tables)
        for table in tables.names:
            for old, new in choices.renames.items():
                tables.rows(f"rename_{table}", old=old, new=new)
            tables.rows(f"{table}_triggers_on")
    return report


def _unwrap(tables: _Tables) -> None:
    """Write the values that a wrapping was taken off. (Buffers of other forms are the migration's own work.)"""
    rows: dict[str, list[dict[str, str]]] = {"rewrite_key": [], "rewrite_creds": []}
    for company, (key_type, key_id), result in tables.values():
        if isinstance(result, FittedValue) and result.wrappings - {OTHER_BUFFER}:
            statement = "rewrite_key" if key_type else "rewrite_creds"
            document = result.value.decode()
            row = {"company_id": company, "key_type": key_type, "key_id": key_id, "document": document}
            rows[statement].append(row)
            if len(rows[statement]) == ROWS_AT_A_TIME:
                tables.run_many(statement, rows[statement])
                rows[statement].clear()
    for statement, remaining in rows.items():
        tables.run_many(statement, remaining)


def _namable(company: str) -> str | None:
    """The id under which commands reach this company; None if none does."""
    try:
        return ids.canonical_company(company)
    except InvalidInput:
        return None


def _check_renames(companies: Iterable[str], renames: Mapping[str, str]) -> None:
    """Raise InvalidInput unless each rename leads from a company that is there to an id that is free."""
    companies = set(companies)
    taken = {_namable(company) for company in companies - renames.keys()}
    for old, new in renames.items():
        if old not in companies:
            raise InvalidInput(f"--rename {old!r}: there is no such company; nothing was changed")
        free = ids.canonical_company(new)
        if free in taken:
            raise InvalidInput(f"--rename {old!r}={new}: there is a company {free} already; nothing was changed")
        taken.add(free)


def _unnamable(companies: Iterable[str], renames: Mapping[str, str]) -> dict[str, str]:
    """The companies that no command could reach, each with an id like its own that is free."""
    companies = list(companies)
    taken = {_namable(company) for company in companies} | set(renames.values())
    suggestions: dict[str, str] = {}
    for company in companies:
        if company in renames or _namable(company) is not None:
            continue
        bare = company.removesuffix("@s.whatsapp.net").removeprefix(ids.COMPANY_PREFIX)
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", bare).strip("-")[:56] or "unnamed"
        numbers = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(companies) + 2))
        suggestion = next(name for name in numbers if _namable(name) not in {None, *taken})
        taken.add(_namable(suggestion))
        suggestions[company] = suggestion
    return suggestions
