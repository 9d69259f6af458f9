"""A damaged backup is refused before anything is touched, and the message says what is damaged and where.

Every byte of small archives is damaged in turn, and so are their parts as wholes.
"""

import base64
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore import InvalidInput, KeystoreError, open_store
from keystore.backup.archive_keys import ArchiveKeys
from keystore.backup.opening import archive_keys
from monitor.backup.archive import Backup, checked_backup, is_backup
from monitor.backup.export import export_backup
from monitor.backup.manifest import End, Header, Part
from tests.acceptance.in_process import run, run_refused
from tests.conformance.sealing.stored import OLD_KEY
from tests.monitor.backup.databases import digest, token


@pytest.fixture(scope="module", params=["", OLD_KEY], ids=["plain", "sealed"])
def secret_keys(request: pytest.FixtureRequest) -> str:
    """The secret keys of the archives."""
    return str(request.param)


@pytest.fixture(scope="module")
def keys(secret_keys: str) -> ArchiveKeys | None:
    """The keys that open the archives."""
    return archive_keys(secret_keys)


@pytest.fixture(scope="module")
def archives(
    secret_keys: str, keys: ArchiveKeys | None, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two archives of the same three companies, of different moments."""
    folder = tmp_path_factory.mktemp("archives")
    shutil.copyfile(sqlite_template, folder / "k.db")
    with open_store(f"sqlite:///{folder}/k.db", secret_keys=secret_keys) as store:
        for company in ("a", "b", "c"):
            mapping = {"lid-mapping": {"1": b'"2"'}}
            store.set(company, {"session": {"x": b'{"me":"%s"}' % company.encode()}, **mapping}, creds=b'{"n":1}')
        store.add_token(token("aaaaaaaaaaaa", "a", store))
        for name in ("first", "second"):
            export_backup(store, folder / name, keys)
    return folder / "first", folder / "second"


@pytest.fixture(scope="module")
def archive(archives: tuple[Path, Path]) -> Path:
    """A small archive."""
    return archives[0]


@pytest.fixture(scope="module")
def damaged(archive: Path) -> Path:
    """The path of a damaged copy of the archive."""
    return archive.with_name("damaged")


@pytest.fixture(scope="module")
def whole(archive: Path, keys: ArchiveKeys | None) -> Backup:
    """The archive as it was written."""
    return checked_backup(archive, keys)


def refusal(path: Path, content: bytes, keys: ArchiveKeys | None) -> str:
    """Return the message with which this content is refused. It is always taken for a backup."""
    path.write_bytes(content)
    assert is_backup(path)
    with pytest.raises(InvalidInput, match="is damaged, and nothing was changed") as refused:
        checked_backup(path, keys)
    assert '"me"' not in str(refused.value), "no message quotes a value"
    return str(refused.value)


def test_a_flipped_bit_in_any_byte_is_noticed(archive: Path, damaged: Path, keys: ArchiveKeys | None) -> None:
    content = archive.read_bytes()
    bits = random.Random(7)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << bits.randrange(8)
        refusal(damaged, bytes(changed), keys)


@pytest.mark.parametrize("line", [0, -3, -1])
def test_a_line_that_says_the_same_in_another_form_is_refused(
    archive: Path, damaged: Path, keys: ArchiveKeys | None, line: int
) -> None:
    lines = archive.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b",", b", ", 1)
    refusal(damaged, b"".join(lines), keys)


def test_no_control_character_comes_from_an_archive_into_a_terminal(whole: Backup) -> None:
    with pytest.raises(InvalidInput, match="program: not a value of this field"):
        Header.read(replace(whole.header, program="1\x1b[31m").line())
    with pytest.raises(InvalidInput, match="part: not a value of this field"):
        Part.read(replace(whole.parts[0], part="a\x1b").line())


@given(data=st.data())
def test_no_damage_goes_unnoticed(archive: Path, damaged: Path, keys: ArchiveKeys | None, data: st.DataObject) -> None:
    content = archive.read_bytes()
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, min(len(content), begin + data.draw(st.sampled_from([1, 40, 4_000])))))
    middle = data.draw(st.one_of(st.binary(max_size=80), st.just(content[begin:end] * 2), st.just(content[:begin])))
    changed = content[:begin] + middle + content[end:]
    damaged.write_bytes(changed)
    if changed == content:
        checked_backup(damaged, keys)
        return
    with pytest.raises(KeystoreError):
        checked_backup(damaged, keys)


def test_an_archive_that_is_cut_off_anywhere_is_refused(archive: Path, damaged: Path, keys: ArchiveKeys | None) -> None:
    content = archive.read_bytes()
    for length in range(60, len(content), 7):
        message = refusal(damaged, content[:length], keys)
        assert f"cut off after {length:,} bytes" in message or "follow after its last line" in message
    refusal(damaged, content[:-1], keys)


def pieces(content: bytes, backup: Backup) -> dict[str, bytes]:
    """Return the parts of an archive by name; `head` is the first line, and `tail` everything after the parts."""
    parts = {part.part or "tokens": content[part.offset : part.offset + part.length] for part in backup.parts}
    return {"head": content[: backup.parts[0].offset], **parts, "tail": content[backup.end.manifest_at :]}


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("head a c tokens tail", "where company b should be, begin with company c"),
        ("head b a c tokens tail", "where company a should be, begin with company b"),
        ("head a a b c tokens tail", "where company b should be, begin with company a"),
        ("head a b c c tokens tail", "where the tokens should be, were changed"),
        ("head a b c tail", "where the tokens should be, were changed"),
        ("head a b tokens c tail", "where company c should be, were changed"),
        ("a b c tokens tail", "its first line was changed"),
        ("head head a b c tokens tail", "where company a should be, were changed"),
        ("head a b c tokens tail a", "bytes follow after its last line"),
        ("head a b c tokens tail tail", "belong to no part|checksum|manifest"),
        ("head a b c tokens", "cut off after"),
    ],
)
def test_parts_that_are_missing_moved_or_doubled_are_named(
    archive: Path, damaged: Path, whole: Backup, keys: ArchiveKeys | None, order: str, message: str
) -> None:
    parts = pieces(archive.read_bytes(), whole)
    refused = refusal(damaged, b"".join(parts[name] for name in order.split()), keys)
    assert any(expected in refused for expected in message.split("|")), refused


def test_parts_of_another_archive_are_refused(
    archives: tuple[Path, Path], damaged: Path, whole: Backup, keys: ArchiveKeys | None
) -> None:
    other = checked_backup(archives[1], keys)
    own, others = pieces(archives[0].read_bytes(), whole), pieces(archives[1].read_bytes(), other)
    message = refusal(damaged, b"".join([*list(own.values())[:-1], others["tail"]]), keys)
    assert f"its manifest is of another archive: {other.end.archive} in place of {whole.end.archive}" in message
    refusal(damaged, others["head"] + b"".join(list(own.values())[1:]), keys)
    if whole.sealed:  # In clear, the same company has the same bytes in both.
        assert "where company b should be, were changed" in refusal(
            damaged, b"".join({**own, "b": others["b"]}.values()), keys
        )


Seal = Callable[[bytes], str | None]


def forged(backup: Backup, change: Callable[[dict[str, bytes]], dict[str, bytes]], seal: Seal) -> bytes:
    """Return an archive with changed parts, and with checksums that are right again. `seal` seals the checksum."""
    parts = change(pieces(backup.path.read_bytes(), backup))
    content, manifest = parts["head"], []
    for part in backup.parts:
        piece = parts[part.part or "tokens"]
        manifest.append(replace(part, offset=len(content), length=len(piece), sha256=sha256(piece).hexdigest()))
        content += piece
    manifest_at = len(content)
    content += b"".join(part.line() for part in manifest)
    checksum = sha256(content)
    end = replace(backup.end, manifest_at=manifest_at, length=len(content), sha256=checksum.hexdigest())
    return content + replace(end, seal=seal(checksum.digest())).line()


def test_a_forger_without_the_master_key_is_noticed(damaged: Path, whole: Backup, keys: ArchiveKeys | None) -> None:
    def later(parts: dict[str, bytes]) -> dict[str, bytes]:
        return {**parts, "a": parts["a"].replace(b"-11-", b"-10-").replace(b"-12-", b"-10-")}

    damaged.write_bytes(forged(whole, later, lambda _: whole.end.seal))
    if not whole.sealed:
        checked_backup(damaged, keys)  # Checksums alone show accidents only.
        return
    assert "the seal in its last line doesn't open, or seals another checksum" in refusal(
        damaged, damaged.read_bytes(), keys
    )
    assert "don't agree on a seal" in refusal(damaged, forged(whole, later, lambda _: None), keys)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b'"id":"x"', b'"id":"1\\n"', "line 4 of its part"),
        (b'"created_at":"2', b'"created_at":"0', "company a, line 3"),
        (b'{"company":"a"', b'{"company":"../a"', "not the beginning of this company"),
        (b'{"type":"session"', b'{"tope":"session"', "company a"),
    ],
)
def test_a_part_that_cannot_be_read_is_refused_although_its_checksums_are_right(
    damaged: Path, whole: Backup, keys: ArchiveKeys | None, before: bytes, after: bytes, message: str
) -> None:
    def seal(checksum: bytes) -> str | None:
        return base64.b64encode(keys.sealed_checksum(whole.end.archive, checksum)).decode() if keys else None

    content = forged(whole, lambda parts: {**parts, "a": parts["a"].replace(before, after)}, seal)
    assert content != whole.path.read_bytes()
    assert message in refusal(damaged, content, keys)


@pytest.mark.parametrize("secret_keys", [OLD_KEY], indirect=True)
def test_a_value_of_another_key_does_not_open_in_a_sealed_archive(
    damaged: Path, whole: Backup, keys: ArchiveKeys | None
) -> None:
    sealer = keys
    assert sealer is not None

    def seal(checksum: bytes) -> str:
        return base64.b64encode(sealer.sealed_checksum(whole.end.archive, checksum)).decode()

    def other_company(parts: dict[str, bytes]) -> dict[str, bytes]:
        return {**parts, "a": parts["a"].replace(parts["a"].splitlines()[3], parts["b"].splitlines()[3])}

    def other_type(parts: dict[str, bytes]) -> dict[str, bytes]:
        return {**parts, "a": parts["a"].replace(b'"type":"session"', b'"type":"pre-key"')}

    def other_data_key(parts: dict[str, bytes]) -> dict[str, bytes]:
        return {**parts, "a": parts["b"].replace(b'"company":"b"', b'"company":"a"')}

    for change in (other_company, other_type, other_data_key):
        assert "company a, line" in refusal(damaged, forged(whole, change, seal), keys)


def test_a_damaged_archive_changes_nothing(
    archive: Path, damaged: Path, secret_keys: str, migrated_sqlite_url: str, migrated_postgres_url: str
) -> None:
    """Tried through the command, with every option that could bring a part of it in by another way."""
    content = archive.read_bytes()
    places = random.Random(3).sample(range(len(content)), 20)
    places += [0, 2, 30, 48, len(content) - 1, len(content) - 2, len(content) - 200, content.rindex(b"\n", 0, -1)]
    settings = {"KEYSTORE_SECRET_KEYS": secret_keys}
    for url in (migrated_sqlite_url, migrated_postgres_url):
        with open_store(url, secret_keys=secret_keys) as store:
            store.set("a", {"session": {"x": b"newer"}}, creds=b'{"n":2}')
        before = digest(url)
        for number, at in enumerate(places):
            changed = bytearray(content)
            changed[at] ^= 1 << (at % 8)
            damaged.write_bytes(changed)
            options: list[str] = [[], ["--company", "a", "--replace"], ["--state", "a"], ["--from", "archive"]][
                number % 4
            ]
            message = run_refused("import", str(damaged), *options, url=url, KEYSTORE_SECRET_KEYS=secret_keys)
            assert "damaged" in message
        assert digest(url) == before
        assert run("import", str(archive), "--replace", url=url, settings=settings).returncode == 0


def test_verify_refuses_a_damaged_archive(archive: Path, damaged: Path, secret_keys: str) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    settings = {"KEYSTORE_SECRET_KEYS": secret_keys}
    done = run("verify", str(damaged), "--json", settings=settings)
    assert done.returncode == 1
    assert "is damaged" in json.loads(done.stderr)["error"]
    assert "doesn't exist" in run_refused("verify", str(archive.with_name("nowhere")))


@pytest.mark.parametrize("kind", [Header, Part, End])
@given(text=st.text(max_size=60) | st.from_regex(r'\{"archive":"[^"]*",.*\}', fullmatch=True))
def test_no_line_makes_the_reader_crash(kind: type[Header] | type[Part] | type[End], text: str) -> None:
    with pytest.raises(InvalidInput):
        kind.read(text.encode(errors="replace"))
