"""The bot's seat: a small run on real parts, the bots' program, and the tables of the figures."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from bench.command import read_json, write_json
from bench.seat import hops
from bench.seat.__main__ import main
from bench.seat.figures import Seat, targets
from bench.seat.measure import ACCOUNTS, WRITING, _cpu_s, measure
from bench.seat.program import Answer, Bot, started
from bench.seat.stores import OPENERS, files, legacy, missing
from bench.seat.tables import tables
from keystore.errors import KeystoreError
from rig.fixtures.postgres import PostgresSite
from rig.waiting import eventually
from tests.bench.sample_figures import SEAT

pytestmark = pytest.mark.xdist_group("seat")


@pytest.fixture
def bot(node: str, tmp_path: Path) -> Iterator[Bot]:
    """A bot on files."""
    with started(node, files(tmp_path)) as process:
        yield process


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("node")
def test_all_stores_hold_the_same_keys_and_leave_nothing_behind(
    postgres_site: PostgresSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    small = {
        "WARM_UP_MS": 10.0,
        "WARM_UP_ROUNDS": 0,
        "STARTS": 2,
        "MESSAGES": 3,
        "BURSTS": 2,
        "FAR_STARTS": 2,
        "FAR_MESSAGES": 2,
        "TURN_MS": 50.0,
        "CROWD": [WRITING, *(f"8{number}" for number in range(16))],
        "IN_MEMORY": [["91", "92", "93"], ["94", "95", "96"]],
        "WARM_UP_ACCOUNTS": 1,
    }
    for name, value in small.items():
        monkeypatch.setattr(f"bench.seat.measure.{name}", value)
    seat = measure(postgres_site.admin_url, 1)
    assert seat is not None
    assert seat.keys == 721
    assert list(seat.rows) == [name for name in OPENERS if name not in missing()]
    for name, row in seat.rows.items():
        assert 0 < row.opened_ms <= row.connect_ms
        assert min(row.message.p50_ms, row.burst_ms, *row.per_s.values()) > 0, name
        assert list(row.per_s) == [str(accounts) for accounts in ACCOUNTS]
        assert (row.far is None) == (name == "files")
        if row.far:
            assert row.far.message_ms > 20
        assert (row.memory_kb is not None) == (name in ("straight", "http", "http_sqlite"))
    assert seat.rows["http"].cpu.service_us > 0
    assert seat.rows["limit"].cpu.service_us == 0
    assert list(tmp_path.iterdir()) == []
    with psycopg.connect(postgres_site.admin_url) as conn:
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench_seat%'").fetchall() == []
        assert conn.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'bot_seat%'").fetchall() == []


@pytest.mark.slow
@pytest.mark.usefixtures("node")
def test_the_parts_of_a_message_are_measured(postgres_site: PostgresSite) -> None:
    parts = hops.measure(postgres_site.admin_url, rounds=1)
    assert list(parts) == ["query", "upsert", "straight", "alive", "request", "http"]
    assert min(parts.values()) > 0
    assert len(hops.as_text(parts).splitlines()) == 8


def test_the_digest_differs_only_for_other_values(bot: Bot) -> None:
    def look(**keys: str) -> Answer:
        return bot.ask("look at", keys={"session": keys})

    two_keys = look(a='{"x":{"type":"Buffer","data":"AQI="},"y":2}', b='{"z":1}')
    assert two_keys.keys == 2
    assert look(b='{"z":1}', a='{"y":2,"x":{"type":"Buffer","data":"AQI="}}') == two_keys
    for other in ('{"x":{"type":"Buffer","data":"AQM="},"y":2}', '{"x":{"type":"Buffer","data":"AQI="},"y":3}'):
        assert look(a=other, b='{"z":1}') != two_keys
    assert look(b='{"z":1}').keys == 1


def test_errors_of_the_program_are_one_line(node: str, postgres_url: str, bot: Bot) -> None:
    at = legacy(postgres_url)
    lost = replace(at, address={**at.address, "url": f"{postgres_url}-not"})
    error = r"^the bot's program can't do 'load': 3D000$"
    with started(node, lost) as bot_of_none, pytest.raises(KeystoreError, match=error):
        bot_of_none.ask("load", company="1", ids={}, times=1)
    with pytest.raises(KeystoreError, match="the bot's program can't do 'nothing': TypeError"):
        bot.ask("nothing")


def test_the_processor_time_of_a_program_grows_with_its_work(bot: Bot) -> None:
    before = _cpu_s(bot.pid)
    keys = {"session": {str(number): json.dumps([number] * 100) for number in range(100)}}
    eventually(lambda: bool(bot.ask("read", keys=keys, times=20).ms) and _cpu_s(bot.pid) > before, "time passed")
    assert _cpu_s(None) == 0


def test_a_store_that_this_machine_lacks_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "redis-server" else which(name))
    absent = missing()
    assert [name for name in absent if name.startswith("redis")] == ["redis_always", "redis_everysec"]
    assert "apt-get install redis-server" in absent["redis_always"]


def test_a_missing_node_is_reported_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([]) == 2
    assert capsys.readouterr().err == "error: node or npm is not installed here, and this measurement needs both\n"


def test_the_tables_show_each_measured_store_and_each_figure() -> None:
    seat = replace(SEAT, rows={name: row for name, row in SEAT.rows.items() if name != "redis_everysec"})
    summary, accounts, distance = (
        tables(seat)[name].splitlines() for name in ("seat", "seat_accounts", "seat_distance")
    )
    assert summary[2] == "| **our client, straight to Postgres** | 19.0 ms | 0.40 / 2.0 ms | 3.2 ms | 9,000 |"
    assert accounts[2].endswith(" | 9.0 ms | 3,000 | 9,000 | 11,000 | 250 µs: 100, 0, 150 | 30 kB |")
    assert distance[0] == "| 20 ms away | connect and read all | one message’s durable write |"
    assert [len(table) - 2 for table in (summary, accounts, distance)] == [8, 8, 7]
    assert not any("everysec" in line for line in summary)


def test_without_figures_each_target_says_how_to_get_them() -> None:
    rows = list(targets(None))
    assert len(rows) == 14
    assert {(row.met, row.note) for row in rows} == {(None, "a run of its own: python -m bench.seat")}


def test_figures_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "seat.json"
    write_json(file, SEAT)
    assert read_json(file, Seat, "bench.seat") == SEAT
