"""Pages of companies for an operator: searched, sorted and counted, with each company's current writer."""

from datetime import timedelta

import pytest

from keystore import InvalidInput, Store
from keystore.records import CompanyPage, CompanySummary
from rig.fixtures.clock import START, Clock

pytestmark = pytest.mark.slow

MINUTE = timedelta(minutes=1)


def ids(page: CompanyPage) -> list[str]:
    """The ids on a page."""
    return [seen.company_id for seen in page.companies]


@pytest.fixture
def many(store: Store) -> Store:
    """A store with companies 000 to 119."""
    for number in range(120):
        store.set(f"{number:03}", {"session": {"a": b"A"}})
    return store


def test_an_empty_store_has_an_empty_page(store: Store) -> None:
    assert store.company_page() == CompanyPage(0, ())


def test_a_company_is_counted_and_last_seen_by_its_keys_or_its_creds(store: Store, clock: Clock) -> None:
    store.set("keys", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"P"}})
    store.set("creds-later", {"session": {"a": b"A"}}, creds=b"C")
    clock.advance(MINUTE)
    store.set_creds("creds", b"C")
    store.set_creds("creds-later", b"D")
    store.set("keys-later", {}, creds=b"C")
    clock.advance(MINUTE)
    store.set("keys-later", {"session": {"a": b"A"}})
    assert store.company_page() == CompanyPage(
        4,
        (
            CompanySummary("creds", 0, START + MINUTE, None),
            CompanySummary("creds-later", 1, START + MINUTE, None),
            CompanySummary("keys", 3, START, None),
            CompanySummary("keys-later", 1, START + 2 * MINUTE, None),
        ),
    )
    store.clear("keys")
    assert store.company_page().total == 3


def test_a_lease_is_listed_until_it_expires(store: Store, clock: Clock) -> None:
    store.set("7", {"session": {"a": b"A"}})
    store.set("8", {"session": {"a": b"A"}})
    lease = store.lease_company("7", "host a", 60)
    assert [seen.lease for seen in store.company_page().companies] == [lease, None]
    clock.advance(MINUTE)
    assert [seen.lease for seen in store.company_page().companies] == [None, None]


def test_pages_follow_each_other_in_order(many: Store) -> None:
    every = [f"{number:03}" for number in range(120)]
    assert ids(many.company_page()) == every[:50]
    assert ids(many.company_page(limit=50, offset=50)) == every[50:100]
    assert ids(many.company_page(limit=50, offset=100)) == every[100:]
    assert ids(many.company_page(limit=1_000)) == every == many.companies()
    for offset in (0, 100, 119, 120, 1_000):
        assert many.company_page(limit=7, offset=offset).total == 120
    assert ids(many.company_page(offset=120)) == []


def test_company_pages_and_companies_have_the_same_order(store: Store) -> None:
    names = ["b", "B", "_b", "a-b", "a_b", "ab", "1", "10", "9", "-"]
    for name in names:
        store.set_creds(name, b"C")
    assert ids(store.company_page()) == sorted(names) == store.companies()


def test_companies_are_ordered_by_keys_and_by_activity(store: Store, clock: Clock) -> None:
    for company, keys in (("a", 1), ("c", 3), ("B", 3), ("d", 2)):
        store.set(company, {"session": {str(n): b"A" for n in range(keys)}})
        clock.advance(MINUTE)
    store.set_creds("e", b"C")
    lease = store.lease_company("c", "host a", 60)
    assert ids(store.company_page(order="keys")) == ["B", "c", "d", "a", "e"]
    assert ids(store.company_page(order="latest")) == ["e", "d", "B", "c", "a"]
    assert ids(store.company_page(order="oldest")) == ["a", "c", "B", "d", "e"]
    second = store.company_page(limit=1, offset=1, order="keys")
    assert second == CompanyPage(5, (CompanySummary("c", 3, START + MINUTE, lease),))
    assert (
        store.company_page("x", order="keys") == store.company_page(offset=9, limit=1, search="x") == CompanyPage(0, ())
    )
    by_id, by_keys = store.company_page(), store.company_page(order="keys")
    assert set(by_id.companies) == set(by_keys.companies)


def test_a_search_matches_any_part_of_an_id(many: Store) -> None:
    page = many.company_page("11", limit=5)
    assert page.total == 11
    assert ids(page) == ["011", "110", "111", "112", "113"]
    assert ids(many.company_page("11", limit=5, offset=10)) == ["119"]
    assert many.company_page("x") == CompanyPage(0, ())


@pytest.mark.parametrize("search", ["%", "_", ".*", "'", "\\", "1%", "Ä"])
def test_a_search_has_no_wildcards(many: Store, search: str) -> None:
    assert many.company_page(search) == CompanyPage(0, ())


def test_a_search_respects_case_and_finds_an_underscore(store: Store) -> None:
    for name in ("Bot_1", "bot-1"):
        store.set_creds(name, b"C")
    assert ids(store.company_page("Bot")) == ["Bot_1"]
    assert ids(store.company_page("_")) == ["Bot_1"]


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (-1, 0), (1_001, 0), (50, -1), (50, 2**31)])
def test_an_impossible_page_is_refused(store: Store, limit: int, offset: int) -> None:
    with pytest.raises(InvalidInput, match="limit, offset"):
        store.company_page(limit=limit, offset=offset)


@pytest.mark.parametrize("search", ["a\x00", "x" * 256, "\ud800"])
def test_a_search_that_matches_no_possible_id_is_refused(store: Store, search: str) -> None:
    with pytest.raises(InvalidInput, match="search"):
        store.company_page(search)


def test_the_largest_company_is_the_largest_that_may_be_loaded_whole(store: Store) -> None:
    assert store.largest_company() is None
    store.set("small", {"session": {"a": b"A"}})
    store.set("medium", {"session": {"a": b"A", "b": b"B"}})
    store.set("other", {"session": {"a": b"A", "b": b"B"}})
    store.set("too_large", {"session": {f"{n}": bytes(6 * 2**20) for n in range(3)}})
    assert store.largest_company() == "medium"
