"""Tokens from the command line: shown once, stored as a hash, listed and revoked by their id."""

import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore import open_store
from tests.acceptance.in_process import run, run_json, run_refused


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A new embedded database."""
    address = f"sqlite:///{tmp_path}/k.db"
    open_store(address).close()
    return address


def secret_of(token: str) -> str:
    """The secret part of a token, which only the answer to `create` may show."""
    return token.split("_", 2)[2]


def test_a_token_is_shown_once_and_only_its_hash_is_stored(url: str, tmp_path: Path) -> None:
    creation = run("token", "create", "--company", "company_962302", url=url)
    assert creation.returncode == 0
    token = creation.stdout.strip()
    assert token.startswith("kst_")
    assert token not in creation.stderr
    with closing(sqlite3.connect(tmp_path / "k.db")) as conn:
        dump = "\n".join(conn.iterdump()).lower()
    assert secret_of(token).lower() not in dump
    assert hashlib.sha256(secret_of(token).encode()).hexdigest() in dump
    for listed in (run("token", "list", url=url), run("token", "list", "--json", url=url)):
        assert secret_of(token) not in listed.stdout + listed.stderr
        assert token.split("_")[1] in listed.stdout


def test_the_json_of_a_new_token_has_its_id_company_and_expiry(url: str) -> None:
    token = run_json("token", "create", "--admin", "--expires", "90d", url=url)
    assert token["token"].split("_")[1] == token["token_id"]
    assert (token["company"], token["companies"]) == (None, None)
    expires_at = datetime.fromisoformat(token["expires_at"])
    assert timedelta(days=89) < expires_at - datetime.now(UTC) <= timedelta(days=90)


def test_the_list_shows_company_and_state_of_each_token(url: str) -> None:
    tokens = [
        run_json("token", "create", *args, url=url)
        for args in (["--admin"], ["--company", "company_a"], ["--company", "b", "--expires", "1s"])
    ]
    assert run("token", "revoke", tokens[0]["token_id"], url=url).returncode == 0
    listed = {token["token_id"]: token for token in run_json("token", "list", url=url)["tokens"]}
    assert [listed[token["token_id"]]["company"] for token in tokens] == [None, "a", "b"]
    assert listed[tokens[0]["token_id"]]["revoked_at"] is not None
    # The third token may expire at any moment, so its state isn't checked.
    assert [listed[token["token_id"]]["in_force"] for token in tokens[:2]] == [False, True]
    lines = run("token", "list", url=url).stdout.splitlines()
    assert len(lines) == 1 + 3
    assert lines[0].split() == ["id", "access", "made", "state"]
    assert any("admin" in line and "revoked" in line for line in lines)
    assert any("company a" in line and "in force" in line for line in lines)


def test_a_token_for_several_companies_lists_all_of_them(url: str) -> None:
    options = [part for name in ("b", "company_a", "b", "c") for part in ("--company", name)]
    token = run_json("token", "create", *options, url=url)
    assert (token["company"], token["companies"]) == ("b", ["b", "a", "c"])
    many = [part for number in range(7) for part in ("--company", f"n{number}")]
    run("token", "create", *many, url=url)
    run("token", "create", "--admin", url=url)
    listed = run_json("token", "list", url=url)["tokens"]
    assert [row["companies"] for row in listed] == [["b", "a", "c"], [f"n{number}" for number in range(7)], None]
    lines = run("token", "list", url=url).stdout
    assert "companies b, a, c " in lines
    assert "companies n0, n1, n2, n3, n4 and 2 more " in lines
    assert run("token", "revoke", token["token_id"], url=url).returncode == 0
    assert [row["in_force"] for row in run_json("token", "list", url=url)["tokens"]] == [False, True, True]


def test_an_empty_list_says_so(url: str) -> None:
    assert run("token", "list", url=url).stdout == "there are no tokens\n"
    assert run_json("token", "list", url=url)["tokens"] == []


@pytest.mark.parametrize(
    ("args", "expected_text"),
    [
        (["create", "--company", "a", "--company", "b@d"], "company_id"),
        (["create", "--company", "b@d"], "company_id"),
        (["create", "--admin", "--expires", "soon"], "--expires"),
        (["revoke", "nothing"], "no token has this id"),
    ],
)
def test_a_refused_command_prints_one_line_and_creates_no_token(url: str, args: list[str], expected_text: str) -> None:
    assert expected_text in run_refused("token", *args, url=url)
    assert run_json("token", "list", url=url)["tokens"] == []


@pytest.mark.parametrize("args", [[], ["--company", "a", "--admin"]], ids=" ".join)
def test_a_token_without_an_owner_is_a_mistake_of_the_command_line(url: str, args: list[str]) -> None:
    assert "--company X or --admin" in run_refused("token", "create", *args, url=url, code=2)
    assert run_json("token", "list", url=url)["tokens"] == []


def test_the_list_is_aligned_and_names_its_database(url: str) -> None:
    for company in ("a", "a-company-with-a-long-name"):
        run("token", "create", "--company", company, url=url)
    listed = run("token", "list", url=url)
    assert len({line.index(f"  {datetime.now(UTC):%Y-}") for line in listed.stdout.splitlines()[1:]}) == 1
    assert url.removeprefix("sqlite:///") in listed.stderr


def test_token_alone_shows_its_help() -> None:
    shown = run("token")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "revoke" in shown.stdout


def test_tokens_work_on_postgres_as_well(migrated_postgres_url: str) -> None:
    token = run_json("token", "create", "--company", "a", url=migrated_postgres_url)
    revoked = run_json("token", "revoke", token["token_id"], url=migrated_postgres_url)
    assert revoked == {"database": revoked["database"], "token_id": token["token_id"], "revoked": True}
    (listed,) = run_json("token", "list", url=migrated_postgres_url)["tokens"]
    assert (listed["token_id"], listed["in_force"]) == (token["token_id"], False)
    assert secret_of(token["token"]) not in json.dumps(listed)
