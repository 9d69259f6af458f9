"""The sealed form of values: test vectors that other programs share, and a round trip of anything."""

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import CorruptValue, InvalidInput
from keystore.sealing.sealed_form import SealingKey, full_name
from keystore.sealing.secret_keys import parse_secret_keys
from keystore.values.codec import NONCE_BYTES
from rig.paths import PROJECT

VECTORS = json.loads((PROJECT / "rig" / "data" / "sealed_values.json").read_text(encoding="utf-8"))
KEY = SealingKey(bytes(range(32)))
TEXT_KEY = base64.b64encode(bytes(range(32))).decode()

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def name_of(vector: dict[str, Any]) -> bytes:
    return full_name(vector["company"], vector["type"], vector["id"])


@pytest.mark.parametrize("vector", VECTORS["opens"], ids=lambda vector: vector["note"])
def test_a_vector_seals_and_opens(vector: dict[str, Any]) -> None:
    key = SealingKey(base64.b64decode(vector["key"]))
    value, sealed = (base64.b64decode(vector[name]) for name in ("value", "sealed"))
    assert key.id.hex() == vector["key_id_of_key"]
    assert name_of(vector).hex() == vector["associated_data"]
    assert key.seal(value, name_of(vector), bytes.fromhex(vector["nonce"])) == sealed
    assert key.open(sealed, name_of(vector)) == value


@pytest.mark.parametrize("vector", VECTORS["pre_keys"], ids=lambda vector: vector["note"])
def test_the_nonce_of_a_pre_key_is_derived_as_the_docs_say(vector: dict[str, Any]) -> None:
    raw, value, sealed = (base64.b64decode(vector[name]) for name in ("key", "value", "sealed"))
    name = full_name(vector["company"], "pre-key", vector["id"])
    nonce_key = hmac.digest(raw, b"signal-keystore pre-key nonce", "sha256")
    nonce = hmac.digest(nonce_key, len(name).to_bytes(4, "big") + name + value, "sha256")[:NONCE_BYTES]
    assert (name.hex(), nonce_key.hex(), nonce.hex()) == (
        vector["associated_data"],
        vector["nonce_key"],
        vector["nonce"],
    )
    assert SealingKey(raw).seal(value, name, nonce) == sealed
    assert SealingKey(raw).open(sealed, name) == value


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["note"])
def test_a_vector_is_refused(vector: dict[str, Any]) -> None:
    key = SealingKey(base64.b64decode(vector["key"]))
    with pytest.raises(CorruptValue, match="doesn't open"):
        key.open(base64.b64decode(vector["sealed"]), name_of(vector))


@given(value=st.binary(min_size=1), name=st.tuples(names, names, names), other=st.tuples(names, names, names))
def test_a_value_opens_under_its_own_name_alone(
    value: bytes, name: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    sealed = KEY.seal(value, full_name(*name))
    assert KEY.open(sealed, full_name(*name)) == value
    if other != name:
        with pytest.raises(CorruptValue):
            KEY.open(sealed, full_name(*other))


def test_no_nonce_is_used_twice() -> None:
    begin = len(KEY.head)
    nonces = {KEY.seal(b"value", b"name")[begin : begin + NONCE_BYTES] for _ in range(1_000)}
    assert len(nonces) == 1_000


def test_keys_are_parsed_from_lines_or_commas() -> None:
    other = base64.urlsafe_b64encode(bytes(range(220, 252))).decode()
    assert parse_secret_keys(f"\n{TEXT_KEY} \n{other},") == (bytes(range(32)), bytes(range(220, 252)))
    assert parse_secret_keys(TEXT_KEY.rstrip("=")) == (bytes(range(32)),)
    assert parse_secret_keys("") == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("S3CRET", "32 bytes"),
        (base64.b64encode(b"S3CRET" * 8).decode(), "32 bytes"),
        (base64.b64encode(b"\0" * 32).decode(), "repeats"),
        (f"{TEXT_KEY} {TEXT_KEY}", "the same"),
    ],
)
def test_a_key_that_can_not_be_used_is_refused_without_showing_it(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as error:
        parse_secret_keys(text)
    assert text not in str(error.value)
