"""The HTTP API with sealed values: bots notice nothing, and a worker has the secret key from the service alone."""

import pytest

from keystore import open_store
from tests.api.service import serving_api
from tests.conformance.sealing.stored import OLD_KEY, execute, forms

pytestmark = pytest.mark.xdist_group("processes")


def test_a_bot_over_http_writes_sealed_values_and_reads_them(migrated_postgres_url: str) -> None:
    with serving_api(migrated_postgres_url, secret_keys=OLD_KEY) as api:
        state = {"creds": {"me": 1}, "keys": {"session": {"a": {"x": 1}, "b": {"x": 2}}}}
        assert api.ask("POST", "/v1/companies/1/state", state).status == 204
        stored = forms(api.store)
        assert {form[0] for form in stored.values()} == {1}
        answer = api.ask("GET", "/v1/companies/1/state").json
        assert (answer["creds"], answer["keys"]) == (state["creds"], state["keys"])
        execute(api.store, "UPDATE whatsapp_keys SET value = substr(value, 1, 30) WHERE key_id = 'a'")
        assert api.ask("GET", "/v1/companies/1/state").json["keys"] == {"session": {"b": {"x": 2}}}
        metrics = api.ask("GET", "/metrics").body.decode()
        assert "keystore_unreadable_values 1.0" in metrics


def test_a_worker_without_the_key_says_that_it_is_missing(migrated_postgres_url: str) -> None:
    with serving_api(migrated_postgres_url) as api:
        with open_store(migrated_postgres_url, secret_keys=OLD_KEY) as store:
            store.set("1", {"session": {"a": b"{}"}})
        answer = api.ask("GET", "/v1/companies/1/state")
        assert (answer.status, answer.problem) == (503, "unavailable")
