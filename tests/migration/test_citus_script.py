"""The parts of `migrations/large/citus.sql` that hold on any PostgreSQL. On Citus itself the conformance suite runs."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from keystore import Store, open_store
from keystore.postgres.function_files import function_names, function_text
from keystore.postgres.statements import STATEMENTS
from keystore.schema import MIGRATIONS
from rig.fixtures.citus import SCRIPT
from rig.fixtures.clock import Clock

Rows = Callable[[str, str], list[tuple[Any, ...]]]

TEXT = SCRIPT.read_text(encoding="utf-8")

ON_THE_COORDINATOR = {"keystore_displaced", "keystore_tokens"}
"""The tables with a company that no function of a bot reads."""

WITH_A_COMPANY = """
SELECT table_name::text FROM information_schema.columns
WHERE column_name = 'company_id' AND table_schema = current_schema()
"""

FIRST_ARGUMENTS = r"""
SELECT proname::text, proargnames[1], coalesce(proconfig::text, '') FROM pg_proc WHERE proname LIKE 'keystore\_%'
"""


@pytest.fixture
def replaced(migrated_postgres_url: str, clock: Clock) -> Iterator[Store]:
    """A store on plain PostgreSQL with the script's functions, but that for the size, and with its mark."""
    parts = [part for part in re.split(r"\n(?=CREATE|DO|COMMENT|--)", TEXT) if "proretset" in part]
    parts += re.findall(r"CREATE OR REPLACE FUNCTION keystore_backfill.*?END \$\$;", TEXT, flags=re.DOTALL)
    parts += re.findall(r"COMMENT ON TABLE .*;", TEXT)
    assert len(parts) == 3
    with closing(psycopg.connect(migrated_postgres_url, autocommit=True)) as conn:
        for part in parts:
            conn.execute(part.encode())
    with open_store(migrated_postgres_url, clock=clock) as store:
        yield store


def test_every_table_with_a_company_is_distributed_or_named_here(
    migrated_postgres_url: str, database_rows: Rows
) -> None:
    named = set(re.findall(r"'((?:whatsapp|keystore)_\w+)'", "".join(re.findall(r"ARRAY\[.*?\]", TEXT))))
    tables = {name for (name,) in database_rows(migrated_postgres_url, WITH_A_COMPANY)}
    assert tables - named == ON_THE_COORDINATOR
    assert named - tables == {"keystore_policy", "keystore_settings"}


def test_a_company_is_the_first_argument_of_each_function_of_a_bot(
    migrated_postgres_url: str, database_rows: Rows
) -> None:
    called = {name for text in STATEMENTS.values() for name in re.findall(r"(\w+)\(\s*%\(company_id\)s", text)}
    assert len(called) >= 9
    functions = {name: (first, pinned) for name, first, pinned in database_rows(migrated_postgres_url, FIRST_ARGUMENTS)}
    for name in called:
        first, pinned = functions[name]
        assert first == "company", name
        assert "search_path" in pinned or name == "keystore_load", f"{name}: the script wouldn't distribute it"


def test_the_script_replaces_functions_that_migrate_makes_and_migrate_never_runs_it() -> None:
    assert set(function_names(TEXT)) <= set(function_names(function_text(attached=False)))
    assert SCRIPT.parent not in (MIGRATIONS / "postgres", MIGRATIONS / "sqlite")
    assert not [path for path in MIGRATIONS.glob("*/*.sql") if path.parent.name != "large" and "citus" in path.name]


def test_the_replaced_functions_do_the_same(
    replaced: Store, migrated_postgres_url: str, database_rows: Rows, clock: Clock
) -> None:
    for number in range(5):
        replaced.set(f"{number}", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"P"}}, creds=b"C")
    before = replaced.export_rows("3")
    state = replaced.load("3")
    assert (state.creds, state.keys) == (b"C", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"P"}})
    database_rows(migrated_postgres_url, "UPDATE whatsapp_keys SET expires_at = NULL RETURNING 1")
    filled = [replaced.backfill(4) for _ in range(5)]
    assert [sum(keys.values()) for keys in filled] == [4, 4, 4, 3, 0]
    assert replaced.export_rows("3") == before


def test_a_page_of_marked_tables_is_the_same(replaced: Store) -> None:
    for number in range(25):
        replaced.set(f"{number:02}", {"session": {"a": b"A"}})
    page = replaced.company_page("1", limit=3, offset=2)
    assert (page.total, [company.company_id for company in page.companies]) == (12, ["11", "12", "13"])
