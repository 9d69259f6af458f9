"""Tokens from the command line: shown once, stored as a hash, listed and revoked by their id."""

import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.in_process import failure, report, run


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A new embedded database."""
    return f"sqlite:///{tmp_path}/k.db"


def secret_of(token: str) -> str:
    """The secret part of a token, which only the answer to `create` may show."""
    return token.split("_", 2)[2]


def test_a_token_is_shown_once_and_only_its_hash_is_stored(url: str, tmp_path: Path) -> None:
    made = run("token", "create", "--company", "company_962302", url=url)
    assert made.returncode == 0
    token = made.stdout.strip()
    assert token.startswith("kst_")
    assert token not in made.stderr
    with closing(sqlite3.connect(tmp_path / "k.db")) as conn:
        dump = "\n".join(conn.iterdump()).lower()
    assert secret_of(token).lower() not in dump
    assert hashlib.sha256(secret_of(token).encode()).hexdigest() in dump
    for listed in (run("token", "list", url=url), run("token", "list", "--json", url=url)):
        assert secret_of(token) not in listed.stdout + listed.stderr
        assert token.split("_")[1] in listed.stdout


def test_the_json_has_the_token_as_a_field(url: str) -> None:
    made = report("token", "create", "--admin", "--expires", "90d", url=url)
    assert made["token"].split("_")[1] == made["token_id"]
    assert made["company"] is None
    expires_at = datetime.fromisoformat(made["expires_at"])
    assert timedelta(days=89) < expires_at - datetime.now(UTC) <= timedelta(days=90)


def test_the_list_shows_company_and_state_of_each_token(url: str) -> None:
    made = [
        report("token", "create", *args, url=url)
        for args in (["--admin"], ["--company", "company_a"], ["--company", "b", "--expires", "1s"])
    ]
    assert run("token", "revoke", made[0]["token_id"], url=url).returncode == 0
    listed = {token["token_id"]: token for token in report("token", "list", url=url)["tokens"]}
    assert [listed[token["token_id"]]["company"] for token in made] == [None, "a", "b"]
    assert listed[made[0]["token_id"]]["revoked_at"] is not None
    assert [listed[token["token_id"]]["in_force"] for token in made[:2]] == [False, True]
    lines = run("token", "list", url=url).stdout.splitlines()
    assert len(lines) == 3
    assert any("admin" in line and "revoked" in line for line in lines)
    assert any("company a" in line and "in force" in line for line in lines)


def test_an_empty_list_says_so(url: str) -> None:
    assert run("token", "list", url=url).stdout == "there are no tokens\n"
    assert report("token", "list", url=url) == {"tokens": []}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["create"], "--company"),
        (["create", "--company", "a", "--admin"], "--company"),
        (["create", "--company", "b@d"], "company_id"),
        (["create", "--admin", "--expires", "soon"], "--expires"),
        (["revoke", "nothing"], "no token has this id"),
    ],
)
def test_a_refused_command_is_one_line_and_makes_nothing(url: str, args: list[str], says: str) -> None:
    assert says in failure("token", *args, url=url)
    assert report("token", "list", url=url) == {"tokens": []}


def test_tokens_work_on_postgres_as_well(postgres_url: str) -> None:
    made = report("token", "create", "--company", "a", url=postgres_url)
    assert run("token", "revoke", made["token_id"], url=postgres_url).returncode == 0
    (listed,) = report("token", "list", url=postgres_url)["tokens"]
    assert (listed["token_id"], listed["in_force"]) == (made["token_id"], False)
    assert secret_of(made["token"]) not in json.dumps(listed)
