"""Ids and values: one canonical company, names of printable characters, values of 1 byte to 16 MiB."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import InvalidInput
from keystore.ids import (
    COMPANY_PREFIX,
    MAX_VALUE_BYTES,
    canonical_company,
    checked_ids,
    checked_name,
    checked_value,
    checked_writes,
)
from keystore.tally import PROBE_COMPANY

BARE = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True).filter(lambda name: not name.startswith(COMPANY_PREFIX))


@given(bare=BARE, prefixes=st.integers(0, 3))
def test_prefixes_of_a_company_are_dropped(bare: str, prefixes: int) -> None:
    assert canonical_company(COMPANY_PREFIX * prefixes + bare) == bare


@given(text=st.text(max_size=80) | BARE | BARE.map(lambda bare: f"company_{bare}"))
def test_the_canonical_form_is_stable_and_allowed_or_refused(text: str) -> None:
    bare = text
    while bare.startswith(COMPANY_PREFIX):
        bare = bare.removeprefix(COMPANY_PREFIX)
    if re.fullmatch("[A-Za-z0-9_-]{1,64}", bare):
        assert canonical_company(text) == canonical_company(bare) == bare
    else:
        with pytest.raises(InvalidInput, match=r"^company_id: ") as refusal:
            canonical_company(text)
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize("company", ["company", "companyX", "COMPANY_1", "a_company_b", "_", "-", "x" * 64])
def test_only_the_exact_prefix_is_dropped(company: str) -> None:
    assert canonical_company(company) == company


@pytest.mark.parametrize("company", ["", "company_", "a b", "a/b", "é", "x" * 65, "a\n", "१", "company_a b"])
def test_other_companies_are_refused(company: str) -> None:
    with pytest.raises(InvalidInput, match="company_id"):
        canonical_company(company)


def test_the_prefix_is_not_counted() -> None:
    assert canonical_company(COMPANY_PREFIX + "x" * 64) == "x" * 64


@given(name=st.text(max_size=300))
def test_printable_names_of_up_to_255_characters_are_accepted(name: str) -> None:
    if 1 <= len(name) <= 255 and name.isprintable():
        assert checked_name("key_type", name) == name
        assert checked_ids([name]) == [name]
    else:
        with pytest.raises(InvalidInput, match="key_type"):
            checked_name("key_type", name)
        with pytest.raises(InvalidInput, match="key_id"):
            checked_ids([name])


def test_repeated_ids_are_dropped_in_order() -> None:
    assert checked_ids(iter(["b", "a", "b", "c", "a"])) == ["b", "a", "c"]


@pytest.mark.parametrize("ids", ["abc", 5, None, [["a"]], [{}]], ids=repr)
def test_anything_but_a_list_of_ids_is_refused(ids: object) -> None:
    with pytest.raises(InvalidInput, match="key_ids"):
        checked_ids(ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x"), bytes(MAX_VALUE_BYTES)], ids=type)
def test_a_value_comes_back_as_bytes(value: bytes) -> None:
    checked = checked_value("value", value)
    assert type(checked) is bytes
    assert checked == bytes(value)


def test_a_memoryview_is_measured_in_bytes() -> None:
    wide = memoryview(bytes(16)).cast("q")
    assert checked_value("value", wide) == bytes(16)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"", bytes(MAX_VALUE_BYTES + 1), "S3CRET", ["S3CRET"], None, 7], ids=type)
def test_a_wrong_value_is_refused_by_its_field_and_not_shown(value: object) -> None:
    with pytest.raises(InvalidInput, match="the field") as refusal:
        checked_value("the field", value)  # type: ignore[arg-type]
    assert "S3CRET" not in str(refusal.value)


def test_writes_and_deletions_are_separated_and_sorted() -> None:
    keys = {"b": {"2": b"x", "1": None}, "a": {"9": b"y", "10": b"z", "0": None}, "c": {}}
    assert checked_writes(keys) == (
        [("a", "10", b"z"), ("a", "9", b"y"), ("b", "2", b"x")],
        [("a", "0"), ("b", "1")],
    )


NAMES = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=8)
WRITES = st.dictionaries(NAMES, st.dictionaries(NAMES, st.none() | st.binary(min_size=1, max_size=4)))


@given(keys=WRITES)
def test_writes_lose_and_invent_nothing(keys: dict[str, dict[str, bytes | None]]) -> None:
    written, deleted = checked_writes(keys)
    changes: dict[tuple[str, str], bytes | None] = {(t, i): value for t, i, value in written}
    changes |= dict.fromkeys(deleted)
    assert changes == {(t, i): value for t, by_id in keys.items() for i, value in by_id.items()}
    assert len(written) + len(deleted) == len(changes)
    assert [row[:2] for row in written] == sorted(row[:2] for row in written)
    assert deleted == sorted(deleted)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (None, "keys"),
        ([], "keys"),
        ({"session": None}, r"keys\['session'\]"),
        ({"": {}}, "key_type"),
        ({7: {}}, "key_type"),
        ({"session": {"": b"x"}}, "key_id"),
        ({"session": {"a": "S3CRET"}}, "value of 'session' 'a'"),
        ({"session": {"a": b""}}, "value of 'session' 'a'"),
    ],
    ids=repr,
)
def test_writes_of_a_wrong_shape_are_refused_by_name(keys: object, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as refusal:
        checked_writes(keys)  # type: ignore[arg-type]
    assert "S3CRET" not in str(refusal.value)


def test_a_refused_name_is_shown_escaped_and_short() -> None:
    with pytest.raises(InvalidInput) as refusal:
        canonical_company("\x1b[31m" + "x" * 10_000)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize("name", [str(PROBE_COMPANY), f"{COMPANY_PREFIX}{PROBE_COMPANY}"])
def test_nobody_can_name_the_company_of_the_probes(name: str) -> None:
    assert canonical_company(PROBE_COMPANY) == PROBE_COMPANY
    with pytest.raises(InvalidInput):
        canonical_company(name)
