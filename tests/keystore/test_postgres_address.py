"""A Postgres address means what libpq says; others' parameters are applied or passed over; no password is shown."""

from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from keystore import InvalidInput
from keystore.postgres.address import Address, read_address

KNOWN = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | {"ssl"}


def parse(url: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ValueError from error


def read(url: str) -> Address:
    return read_address(url, KNOWN, parse)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:S3CRET@a:5432,b:5433/d?target_session_attrs=read-write", "postgresql://a:5432,b:5433/d"),
        ("postgresql://u:S3CRET@a,b:5433/d", "postgresql://a,b:5433/d"),
        ("postgresql:///d?host=a,b&port=5432", "postgresql://a:5432,b:5432/d"),
        ("postgresql://u:S3CRET@[::1]:5/d", "postgresql://[::1]:5/d"),
        ("postgresql://u:S3CRET?#@a/d", "postgresql://a/d"),
        ("postgresql:///d", "postgresql://local socket/d"),
        ("postgresql:///d?host=/var/run/postgresql", "postgresql://local socket/d"),
        ("postgresql://u:S3CRET@%2Fvar%2Frun/d", "postgresql://local socket/d"),
        ("postgres://u:S3CRET@a/d?hostaddr=1.2.3.4", "postgresql://a/d"),
        ("postgresql://a/d?sslmode=require&channel_binding=require", "postgresql://a/d"),
        ("  postgresql://u:S3CRET@a/d\r\n", "postgresql://a/d"),
    ],
)
def test_the_name_of_an_address_shows_hosts_and_database_alone(url: str, name: str) -> None:
    address = read(url)
    assert address.name == name
    assert "S3CRET" not in repr(address)
    assert {**conninfo_to_dict(url.strip()), **address.params} == address.params


def test_prisma_s_parameters_are_passed_over() -> None:
    address = read("postgresql://u:p@a/d?schema=public&pgbouncer=true&connection_limit=1&connect_timeout=7")
    assert address.passed_over == ("pgbouncer", "connection_limit", "schema")
    assert address.params == {"user": "u", "password": "p", "host": "a", "dbname": "d", "connect_timeout": "7"}


@pytest.mark.parametrize(
    ("schema", "options"),
    [
        ("bots", '-csearch_path="bots"'),
        ("My%20bots", '-csearch_path="My\\ bots"'),
        ("a%22b%5C", '-csearch_path="a""b\\\\"'),
        ("bots&options=-cjit%3Doff", '-cjit=off -csearch_path="bots"'),
    ],
)
def test_another_schema_is_applied(schema: str, options: str) -> None:
    assert read(f"postgresql://a/d?schema={schema}").params["options"] == options


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u:S3CRET@a/d?conect_timeout=1", "no parameter 'conect_timeout'; did you mean connect_timeout?"),
        ("postgresql://u:S3CRET@a/d?nonsense=S3CRET", "no parameter 'nonsense'; remove it"),
        ("postgresql://u:S3CRET@a/d?sslmode", "parameter 'sslmode' has no value"),
        ("postgresql://u:S3CRET%@a/d", "user or password: a %"),
        ("postgresql://u:p@a/d?options=%S3CRET", "parameter options: a %"),
        ("postgresql://u:p@a:5432,b:S3CRET/d", "the port is no number"),
        ("postgresql://u:p@a:0/d", "the port is no number"),
        ("postgresql://u:p@S3CRET@a/d", "percent-encoded"),
        ("postgresql://u:S3CRET/S3CRET@a/d", "percent-encoded"),
        ("postgresql://u:S3CRET?S3CRET/S3CRET@a/d", "percent-encoded"),
        ("postgresql://u:S3CRET@[::1/d", "percent-encoded"),
    ],
)
def test_the_part_that_is_wrong_is_named(url: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match="address") as refused:
        read(url)
    assert problem in str(refused.value)
    assert "S3CRET" not in str(refused.value)
