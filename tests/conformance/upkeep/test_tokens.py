"""API tokens: stored as hashes, found by id, revoked for good."""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from keystore import InvalidInput, Store
from keystore.records import TokenRecord
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore

DAY = timedelta(days=1)

ADMIN = TokenRecord("aaaa", hashlib.sha256(b"one").digest(), None, START, None, None)
COMPANY = TokenRecord("bbbb", hashlib.sha256(b"two").digest(), "7", START + DAY, START + 90 * DAY, None)
SEVERAL = TokenRecord("dddd", hashlib.sha256(b"three").digest(), "9", START + DAY, None, None, ("8", "10", "7"))


def test_a_token_is_found_as_it_was_added(store: Store, make_store: MakeStore) -> None:
    store.add_token(ADMIN)
    store.add_token(COMPANY)
    other = make_store()
    assert other.find_token("aaaa") == ADMIN
    assert other.find_token("bbbb") == COMPANY
    assert other.find_token("cccc") is None


def test_tokens_come_oldest_first(store: Store) -> None:
    assert store.tokens() == []
    later = replace(ADMIN, token_id="0000", created_at=START + 2 * DAY)
    same = replace(ADMIN, token_id="0001")
    for token in (later, COMPANY, ADMIN, same):
        store.add_token(token)
    assert store.tokens() == [same, ADMIN, COMPANY, later]


def test_a_token_stores_the_canonical_company(store: Store) -> None:
    store.add_token(replace(COMPANY, company_id="company_7"))
    assert store.find_token("bbbb") == COMPANY


def test_a_revoked_token_is_still_listed_and_keeps_its_time(store: Store, clock: Clock) -> None:
    store.add_token(ADMIN)
    store.add_token(COMPANY)
    revoked_at = clock.advance(DAY)
    assert store.revoke_token("bbbb")
    clock.advance(DAY)
    assert store.revoke_token("bbbb")
    assert store.find_token("bbbb") == replace(COMPANY, revoked_at=revoked_at)
    assert store.tokens() == [ADMIN, replace(COMPANY, revoked_at=revoked_at)]


def test_revoking_an_unknown_token_returns_false(store: Store) -> None:
    assert not store.revoke_token("bbbb")
    assert store.find_token("bbbb") is None


def test_an_expired_token_is_found_too(store: Store, clock: Clock) -> None:
    store.add_token(COMPANY)
    clock.advance(200 * DAY)
    assert store.find_token("bbbb") == COMPANY


def test_a_token_added_again_is_one_token(store: Store) -> None:
    store.add_token(COMPANY)
    store.revoke_token("bbbb")
    store.add_token(COMPANY)
    (token,) = store.tokens()
    assert token.revoked_at is not None


def test_a_token_with_a_taken_id_is_refused(store: Store) -> None:
    store.add_token(COMPANY)
    with pytest.raises(InvalidInput, match="bbbb"):
        store.add_token(replace(ADMIN, token_id="bbbb"))
    assert store.tokens() == [COMPANY]


@pytest.mark.parametrize("secret_hash", [b"", b"x" * 31, b"x" * 33, "x" * 32, bytearray(32)])
def test_only_a_hash_is_stored(store: Store, secret_hash: bytes) -> None:
    with pytest.raises(InvalidInput, match="never the secret itself"):
        store.add_token(replace(COMPANY, secret_hash=secret_hash))


@pytest.mark.parametrize("field", ["created_at", "expires_at", "revoked_at"])
def test_a_time_without_a_zone_is_refused(store: Store, field: str) -> None:
    naive: dict[str, datetime] = {field: datetime(2025, 10, 8)}  # noqa: DTZ001
    with pytest.raises(InvalidInput, match=field):
        store.add_token(replace(COMPANY, **naive))  # type: ignore[arg-type]


@pytest.mark.parametrize("token_id", ["", "a\x00b", "x" * 256, "\ud800"])
def test_an_impossible_token_id_is_refused(store: Store, token_id: str) -> None:
    for call in (store.find_token, store.revoke_token):
        with pytest.raises(InvalidInput, match="token_id"):
            call(token_id)
    with pytest.raises(InvalidInput, match="token_id"):
        store.add_token(replace(COMPANY, token_id=token_id))


def test_no_repr_or_error_shows_a_hash(store: Store) -> None:
    assert "secret_hash" not in repr(COMPANY)
    store.add_token(COMPANY)
    with pytest.raises(InvalidInput) as error:
        store.add_token(replace(COMPANY, secret_hash=b"S3CRET" + bytes(26)))
    assert "S3CRET" not in str(error.value)


def test_a_token_of_several_companies_keeps_their_order(store: Store, make_store: MakeStore) -> None:
    store.add_token(COMPANY)
    store.add_token(SEVERAL)
    other = make_store()
    assert other.find_token("dddd") == SEVERAL
    assert other.tokens() == [COMPANY, SEVERAL]
    assert SEVERAL.companies == ("9", "8", "10", "7")
    assert all(map(SEVERAL.reaches, ("9", "8", "10", "7")))
    assert not any(map(SEVERAL.reaches, ("1", "company_9", "98", "")))
    assert (COMPANY.companies, ADMIN.companies) == (("7",), ())


def test_a_token_of_several_companies_has_each_once_by_its_canonical_id(store: Store) -> None:
    store.add_token(replace(SEVERAL, company_id="company_9", further_companies=("8", "9", "company_10", "7", "8")))
    assert store.find_token("dddd") == SEVERAL


def test_a_token_of_several_companies_that_is_added_again_is_one_token(store: Store) -> None:
    for _ in range(2):
        store.add_token(SEVERAL)
    with pytest.raises(InvalidInput, match="dddd"):
        store.add_token(replace(SEVERAL, secret_hash=bytes(32), further_companies=("11", "12", "13", "14")))
    assert store.tokens() == [SEVERAL]


@pytest.mark.parametrize(
    ("company", "further", "message"),
    [
        (None, ("7",), "an admin's token"),
        ("7", ("b@d",), "company_id"),
        ("7", tuple(f"{number}" for number in range(1_001)), "1,000"),
    ],
)
def test_companies_that_no_token_may_have_are_refused(
    store: Store, company: str | None, further: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        store.add_token(replace(SEVERAL, company_id=company, further_companies=further))
    assert store.tokens() == []


def test_a_purge_takes_its_company_out_of_a_token_and_leaves_the_others(store: Store) -> None:
    for token in (ADMIN, COMPANY, SEVERAL):
        store.add_token(token)
    assert store.purge("8")["keystore_tokens"] == 0
    assert store.tokens() == [ADMIN, COMPANY, replace(SEVERAL, further_companies=("10", "7"))]
    assert store.purge("9")["keystore_tokens"] == 0
    assert store.find_token("dddd") == replace(SEVERAL, company_id="10", further_companies=("7",))
    assert store.purge("7")["keystore_tokens"] == 1
    assert store.tokens() == [ADMIN, replace(SEVERAL, company_id="10", further_companies=())]
    assert store.purge("10")["keystore_tokens"] == 1
    assert store.tokens() == [ADMIN]
