"""`rotate` seals every plain value, and every data key by the newest master key, while bots read and write."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keystore import InvalidInput, SecretKeyMissing, Store, open_store
from keystore.sealing.rotation import VALUES_AT_A_TIME
from tests.conformance.conftest import Backend, MakeStore
from tests.conformance.sealing.stored import NEW_KEY, OLD_KEY, execute, forms
from tests.conformance.worker_process import Worker, rotate, workers

pytestmark = pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)

KEYS = {"session": {f"{n}": b"S" for n in range(2 * VALUES_AT_A_TIME + 5)}, "pre-key": {"1": b"P"}}


def rotated(store: Store) -> int:
    """Rotate every company, and return the number of values that were sealed."""
    return sum(store.rotate_company(company).sealed for company in store.companies_to_rotate())


def test_plain_values_are_sealed_with_the_creds_and_the_trash(make_store: MakeStore) -> None:
    plain = make_store()
    plain.set("1", KEYS, creds=b"{}")
    plain.set("2", {"session": {"a": b"A"}}, creds=b"{}")
    plain.clear("2")
    with pytest.raises(InvalidInput, match="KEYSTORE_SECRET_KEYS"):
        plain.rotate_company("1")
    plain.close()
    store = make_store(secret_keys=OLD_KEY)
    keys = sum(map(len, KEYS.values()))
    assert store.companies_to_rotate() == ["1", "2"]
    assert [store.unsealed_values(company) for company in ("1", "2")] == [keys + 1, 2]
    assert rotated(store) == keys + 1 + 2
    assert [store.unsealed_values(company) for company in ("1", "2")] == [0, 0]
    assert {form[0] for form in forms(store).values()} == {1}
    assert store.load("1").keys == KEYS
    assert store.deleted_state(store.deletions("2")[0])[1][0].value == b"A"
    assert rotated(store) == 0, "a second rotation has nothing to do"


def test_a_new_master_key_takes_over_without_a_value_changing(make_store: MakeStore, store_url: str) -> None:
    make_store(secret_keys=OLD_KEY).set("1", {"session": {"a": b"A"}})
    store = make_store(secret_keys=f"{NEW_KEY} {OLD_KEY}")
    before = forms(store)
    assert store.needs_new_wrapping("1")
    assert store.rotate_company("1").rewrapped
    assert not store.needs_new_wrapping("1")
    assert not store.rotate_company("1").rewrapped
    assert store.forget_master_keys() == 1
    assert forms(store) == before
    assert make_store(secret_keys=NEW_KEY).load("1").keys == {"session": {"a": b"A"}}
    with pytest.raises(SecretKeyMissing):
        open_store(store_url, secret_keys=OLD_KEY)


def test_bots_read_and_write_while_values_are_sealed(make_store: MakeStore) -> None:
    make_store().set("1", KEYS, creds=b'{"registrationId": 1}')
    store = make_store(secret_keys=OLD_KEY)
    begun, ended = threading.Barrier(3), threading.Event()

    def write(first: int) -> dict[str, bytes]:
        begun.wait(10)
        last: dict[str, bytes] = {}
        turn = 0
        while not ended.is_set() or turn < 5:
            turn += 1
            last = {f"{n}": b"%d" % turn for n in range(first, len(KEYS["session"]), 20)}
            store.set("1", {"session": last})
            assert store.load("1").total == len(KEYS["session"]) + 1
        return last

    with ThreadPoolExecutor(2) as bots:
        writers = [bots.submit(write, first) for first in (0, 1)]
        begun.wait(10)
        try:
            rotated(store)
        finally:
            ended.set()
        written = writers[0].result(30) | writers[1].result(30)
    assert store.load("1").keys == {"session": KEYS["session"] | written, "pre-key": {"1": b"P"}}
    assert {form[0] for form in forms(store).values()} == {1}
    assert store.unreadable() == []


@pytest.mark.slow
def test_a_killed_rotation_goes_on(make_store: MakeStore, backend: Backend) -> None:
    companies = [f"c{n:02}" for n in range(30)]
    plain = make_store()
    for company in companies:
        plain.set(company, {"session": {f"{n}": b"A" for n in range(40)}})
    worker = Worker(rotate, backend.url, None, secret_keys=OLD_KEY)
    with workers(worker):
        worker.go()
        done = [worker.line() for _ in range(3)]
        done += worker.kill()
    assert "done" not in done, "the worker was killed too late"
    store = make_store(secret_keys=OLD_KEY)
    left = [company for company in companies if store.unsealed_values(company)]
    assert set(done).isdisjoint(left)
    assert len(left) in (len(companies) - len(done), len(companies) - len(done) - 1)
    assert rotated(store) == 40 * len(left)
    assert all(store.load(company).total == 40 for company in companies)
    assert {form[0] for form in forms(store).values()} == {1}


def test_a_company_whose_bot_has_a_login_stays_plain(make_store: MakeStore, backend: Backend) -> None:
    if backend.name != "postgres":
        pytest.skip("only PostgreSQL has logins")
    store = make_store(secret_keys=OLD_KEY)
    execute(
        store,
        "INSERT INTO keystore_logins (login, company_id, most_keys, most_bytes) VALUES ('bot_1', '1', 100, 10000)",
    )
    store.set("1", {"session": {"a": b"A"}}, creds=b"{}")
    assert {form[0] for form in forms(store).values()} == {0}
    assert store.companies_to_rotate() == []
    assert store.load("1").total == 1
