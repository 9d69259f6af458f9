"""Every dump is recognized, and gives the whole state: 721 keys and the creds, equal to the real ones."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from keystore import InvalidInput, Store
from keystore.records import AuthState
from monitor.transfer.readers.recognition import DUMPS, FORMATS, source_at
from monitor.transfer.transfer import import_state
from rig.baileys_state import real_creds, real_keys
from tests.monitor.transfer.folders import value, write_folder
from tests.monitor.transfer.readers import dumps

WHOLE_STATES = [(name, make) for name, makers in dumps.WHOLE_STATES.items() for make in makers]


def same(state: AuthState) -> bool:
    """True if a state says the same as the real one; the order of an object's fields may differ."""
    assert state.creds is not None
    keys = {kind: {k: json.loads(v) for k, v in by_id.items()} for kind, by_id in state.keys.items()}
    real = {kind: {k: json.loads(v) for k, v in by_id.items()} for kind, by_id in real_keys().items()}
    return keys == real and json.loads(state.creds) == json.loads(real_creds())


@pytest.mark.parametrize(("name", "make"), WHOLE_STATES, ids=[make.__name__ for _, make in WHOLE_STATES])
def test_a_dump_gives_the_whole_state(store: Store, tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / "dump")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith("keystore.db")}
    for chosen in (None, name):
        source = source_at(tmp_path / "dump", chosen)
        assert source.read_as == name
        report = import_state(store, f"1{name if chosen else ''}", source)
        assert (report.keys, report.verified, report.creds, report.skipped) == (721, 721, True, ())
        assert report.read_as == name
        assert same(store.load(report.company))
    after = {path: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith("keystore.db")}
    assert after == before


def test_every_format_is_tried() -> None:
    assert {"folder", "archive", "evolution", *dumps.WHOLE_STATES} == set(FORMATS)
    assert {dump.read_as for dump in DUMPS} < set(FORMATS)


@pytest.mark.parametrize("creds_first", [True, False])
@pytest.mark.parametrize("keys_in", ["folder", "hash"])
def test_evolutions_creds_and_keys_come_in_one_after_the_other(
    store: Store, tmp_path: Path, keys_in: str, *, creds_first: bool
) -> None:
    dumps.evolution_rows(tmp_path / "Session.csv")
    if keys_in == "folder":
        keys = write_folder(tmp_path / "instance-2", real_keys(), None)
    else:
        keys = tmp_path / "hash.json"
        dumps.evolution_hash(keys)
    sources = [source_at(tmp_path / "Session.csv", state="instance-2"), source_at(keys)]
    assert [source.read_as for source in sources] == ["evolution", "folder" if keys_in == "folder" else "redis"]
    for source in sources if creds_first else reversed(sources):
        import_state(store, "1", source)
    assert store.load("1") == AuthState(real_creds(), real_keys())


def test_a_dump_of_several_bots_needs_a_choice(store: Store, tmp_path: Path) -> None:
    dumps.evolution_rows(tmp_path / "Session.csv")
    with pytest.raises(InvalidInput, match=r"states of 2 bots \('instance-1', 'instance-2'\); choose one with --state"):
        import_state(store, "1", source_at(tmp_path / "Session.csv"))
    with pytest.raises(InvalidInput, match="no state 'instance-3'; it holds 'instance-1', 'instance-2'"):
        import_state(store, "1", source_at(tmp_path / "Session.csv", state="instance-3"))
    both = dumps.named("bot-1:") | {"bot-2:creds": real_creds().decode(), "bot-2:pre-key-9": value("pre-key").decode()}
    (tmp_path / "redis.json").write_text(json.dumps(both), encoding="utf-8")
    with pytest.raises(InvalidInput, match="states of 2 bots"):
        import_state(store, "1", source_at(tmp_path / "redis.json"))
    report = import_state(store, "1", source_at(tmp_path / "redis.json", state="bot-2"))
    assert store.load("1") == AuthState(real_creds(), {"pre-key": {"9": value("pre-key")}})
    assert (report.keys, report.skipped, report.ignored) == (1, (), ())
    with pytest.raises(InvalidInput, match="--state is for a dump of several"):
        source_at(write_folder(tmp_path / "auth", {}, real_creds()), state="bot-2")


def test_a_torn_dump_is_imported_only_on_request(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    for make in (dumps.redis_lines, dumps.prisma_lines, dumps.typed_csv, dumps.redis_plain_hash):
        make(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InvalidInput, match=r"isn't whole, so nothing was imported"):
            import_state(store, "1", source_at(path))
        assert store.companies() == []
        assert import_state(store, "1", source_at(path), dry_run=True).partial


def test_what_is_no_key_is_named_and_quotes_no_value(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    content = {"creds": real_creds().decode(), "cache:1": "hunter2", "pre-key-1": "null", "session-1.0": '"hunter2"'}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"session-1\.0: expected an object with _sessions"):
        import_state(store, "1", source_at(path))
    report = import_state(store, "1", source_at(path), partial=True)
    assert dict(report.ignored) == {
        "cache:1": "not a name that Baileys gives a key",
        "pre-key-1": "no value in it (null)",
    }
    assert "hunter2" not in repr(report)


def test_a_key_that_is_there_twice_with_different_values_is_not_guessed_at(store: Store, tmp_path: Path) -> None:
    names = ("app-state-sync-key-a/b", "app-state-sync-key-a__b")
    rows = [[name, value("app-state-sync-key", n).decode()] for n, name in enumerate(names)]
    rows.append(["creds", real_creds().decode()])
    (tmp_path / "dump").write_text(dumps.csv_text(["id", "value"], rows), encoding="utf-8")
    with pytest.raises(InvalidInput, match="a/b is the same key with another value"):
        import_state(store, "1", source_at(tmp_path / "dump"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no dump that this program can read"),
        (b"hunter2", "no dump that this program can read"),
        (b"\xff\xfe\x00", "neither UTF-8 text nor a database"),
        (b'{"a":1}', "has no format that `import` knows"),
        (b"a,b\n1,2\n", "has no format that `import` knows"),
        (b"SQLite format 3\x00 hunter2", "can't be read"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "dump").write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as refused:
        source_at(tmp_path / "dump")
    assert "hunter2" not in str(refused.value)
    for name in FORMATS:
        with pytest.raises(InvalidInput) as refused:
            source_at(tmp_path / "dump", name).read(None)
        assert "hunter2" not in str(refused.value)


def test_a_database_with_a_damaged_table_is_refused_in_words(tmp_path: Path) -> None:
    dumps.baileys_sqlite(tmp_path / "dump")
    content = (tmp_path / "dump").read_bytes()
    damaged = content.replace(b"tablecredscreds", b"tablecr\xffdscreds").replace(
        b"CREATE TABLE creds", b"CREATE TABLf creds"
    )
    (tmp_path / "dump").write_bytes(damaged)
    with pytest.raises(InvalidInput, match="dump can't be read"):  # SQLite's message quotes the damaged name.
        source_at(tmp_path / "dump")


def test_a_format_is_forced_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--from mysql: no such format; there are folder, archive, sqlite"):
        source_at(tmp_path / "dump", "mysql")
    dumps.baileys_sqlite(tmp_path / "dump")
    with pytest.raises(InvalidInput, match="neither UTF-8 text nor a database"):
        source_at(tmp_path / "dump", "table").read(None)


def test_a_database_that_a_bot_still_writes_is_read_and_left_alone(store: Store, tmp_path: Path) -> None:
    """useSqliteAuthState writes ahead: what was written last stands in the file beside."""
    path = tmp_path / "auth.db"
    bot = sqlite3.connect(path, isolation_level=None)
    bot.execute("PRAGMA journal_mode = WAL")
    bot.executescript(dumps.BAILEYS_SQLITE)
    bot.execute("INSERT INTO creds VALUES ('__creds__', ?)", (real_creds().decode(),))
    bot.execute("INSERT INTO signal_keys VALUES ('pre-key', '1', ?)", (value("pre-key").decode(),))
    import_state(store, "1", source_at(path))
    assert store.load("1") == AuthState(real_creds(), {"pre-key": {"1": value("pre-key")}})
    bot.close()
