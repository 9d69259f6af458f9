"""The public names of `keystore`, its contract's methods, and its tree of errors."""

import inspect
import re

import pytest

import keystore
from keystore import AuthState, KeystoreError, Store, errors, open_store
from keystore.records import KeyRow
from keystore.store import KeyStore
from keystore.upkeep import Upkeep
from rig.fixtures.clock import START

PUBLIC_NAMES = [
    "AuthState",
    "CorruptValue",
    "InvalidInput",
    "KeyStore",
    "KeystoreError",
    "LeaseHeld",
    "LeaseLost",
    "Quota",
    "QuotaExceeded",
    "SchemaMismatch",
    "SecretKeyMissing",
    "Store",
    "StoreClosed",
    "StoreUnavailable",
    "WentBack",
    "open_store",
]
PARAMETERS_BY_METHOD = {
    "get": ["company_id", "key_type", "key_ids"],
    "set": ["company_id", "keys", "creds", "epoch", "seq", "acknowledged"],
    "load": ["company_id"],
    "touch": ["company_id", "keys"],
    "get_creds": ["company_id"],
    "set_creds": ["company_id", "creds", "epoch", "seq"],
    "set_all": ["writes"],
    "clear": ["company_id", "keys_only", "epoch", "seq", "acknowledged"],
    "lease_company": ["company_id", "holder", "ttl_s", "epoch", "force"],
    "release_company": ["company_id", "holder", "epoch"],
    "close": [],
}
ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def test_keystore_exports_exactly_its_public_names() -> None:
    assert keystore.__all__ == PUBLIC_NAMES == sorted(PUBLIC_NAMES)
    for name in PUBLIC_NAMES:
        assert getattr(keystore, name).__doc__


def test_open_store_takes_a_url_and_keywords() -> None:
    parameters = inspect.signature(open_store).parameters
    assert next(iter(parameters)) == "url"
    assert {"clock", "policy", "guard"} <= parameters.keys()
    assert all(
        parameter.kind is inspect.Parameter.KEYWORD_ONLY for name, parameter in parameters.items() if name != "url"
    )
    assert parameters["clock"].default is None
    assert parameters["guard"].default is True


@pytest.mark.parametrize("method", PARAMETERS_BY_METHOD)
def test_the_parameters_of_a_bots_operations_are_fixed(method: str) -> None:
    parameters = list(inspect.signature(getattr(KeyStore, method)).parameters)[1:]
    assert parameters == PARAMETERS_BY_METHOD[method]


def test_every_method_of_the_contract_is_abstract_and_documented() -> None:
    for interface in (KeyStore, Upkeep):
        for name, member in vars(interface).items():
            if not name.startswith("_"):
                assert name in Store.__abstractmethods__, f"{name} could be left out by a backend"
                assert inspect.getdoc(member), name


def test_every_error_is_a_documented_keystore_error() -> None:
    assert len(ERRORS) == 11
    for kind in ERRORS:
        assert issubclass(kind, KeystoreError)
        assert kind.__doc__


def test_the_docstring_draws_the_tree_of_errors() -> None:
    drawn_names = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn_names) == sorted(kind.__name__ for kind in ERRORS if kind is not KeystoreError)
    assert all(kind.__bases__[0] is KeystoreError for kind in ERRORS if kind is not KeystoreError)


def test_invalid_input_is_a_value_error_and_unavailable_is_not() -> None:
    assert issubclass(keystore.InvalidInput, ValueError)
    assert not issubclass(keystore.StoreUnavailable, ValueError)
    assert not issubclass(keystore.StoreUnavailable, keystore.InvalidInput)


def test_no_repr_shows_a_value() -> None:
    state = AuthState(b"S3CRET", {"session": {"S3CRET id": b"S3CRET"}})
    row = KeyRow("session", "a", b"S3CRET", START, START, None)
    assert "S3CRET" not in repr(state)
    assert "S3CRET" not in repr(row)
    assert "session" in repr(row)


def test_the_repr_of_a_state_counts() -> None:
    state = AuthState(b"C" * 2_048, {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"P"}})
    assert repr(state) == "AuthState(creds=2,048 bytes, keys=3 of 2 types)"
    assert repr(AuthState(None, {})) == "AuthState(creds=None, keys=0 of 0 types)"


def test_a_state_counts_its_keys() -> None:
    assert AuthState(None, {}).total == 0
    assert AuthState(b"C", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"P"}}).total == 3
