"""A snapshot has every company as of one moment, also if bots write or an operator erases while it is read."""

from keystore import Store
from keystore.backup.snapshot import Snapshot
from keystore.records import CompanySnapshot
from tests.conformance.conftest import Backend, MakeStore

COMPANIES = ["a", "b", "c"]


def write_generation(store: Store, generation: int) -> None:
    """Write creds and keys of three types to each company, a set for each."""
    value = b"%d" % generation
    for company in COMPANIES:
        keys = {key_type: {"1": value, "2": value} for key_type in ("pre-key", "session", "lid-mapping")}
        store.set(company, {**keys, "tctoken": {f"{generation}": value}}, creds=value)


def test_a_snapshot_is_of_one_moment(store: Store) -> None:
    write_generation(store, 1)
    before = {company: store.export_rows(company) for company in COMPANIES}

    def read(snapshot: Snapshot) -> list[CompanySnapshot]:
        companies = []
        for number, company in enumerate(snapshot.companies()):
            companies.append(snapshot.company(company))
            write_generation(store, number + 2)
        return companies

    companies = store.snapshot(read)
    assert [company.company_id for company in companies] == COMPANIES
    for company in companies:
        assert [row.key_id for row in company.rows] == [row.key_id for row in before[company.company_id]]
        assert [row.updated_at for row in company.rows] == [row.updated_at for row in before[company.company_id]]
        assert company.value_bytes == 8
    if store.sealing == "off":
        assert [company.creds for company in companies] == [b"1"] * 3
        assert {company.company_id: company.rows for company in companies} == before
    else:
        values = [company.creds, *(row.value for company in companies for row in company.rows)]
        assert {value[:1] for value in values if value is not None} == {b"\x01"}, (
            "a mapping is sealed in an archive too"
        )
    assert store.load("a").creds == b"4", "nobody waited for the snapshot"


def test_a_company_that_is_erased_meanwhile_is_in_the_snapshot(store: Store) -> None:
    write_generation(store, 1)

    def read(snapshot: Snapshot) -> CompanySnapshot:
        assert snapshot.companies() == COMPANIES
        store.purge("b")
        return snapshot.company("b")

    company = store.snapshot(read)
    assert (len(company.rows), company.unreadable) == (7, ())
    assert store.companies() == ["a", "c"]


def test_a_value_that_cannot_be_read_is_named_and_left_out(make_store: MakeStore, backend: Backend) -> None:
    store = make_store()
    store.set("a", {"session": {"1": b"1", "2": b"2"}}, creds=b"{}")
    value = "x'07'" if backend.name == "sqlite" else "'\\x07'::bytea"
    store.link.work(  # type: ignore[attr-defined]
        lambda run: run(f"UPDATE whatsapp_keys SET value = {value} WHERE company_id = 'a' AND key_id = '2'", {})
    )
    company = store.snapshot(lambda snapshot: snapshot.company("a"))
    assert ([row.key_id for row in company.rows], company.unreadable) == (["1"], (("session", "2"),))
