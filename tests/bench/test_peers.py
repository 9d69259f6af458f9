"""The peers: the real Baileys and pg in Node, on the same keys as the store."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bench.peers.__main__ import main
from bench.peers.measure import BURST_LIMIT, LOAD_LIMIT, measure
from bench.peers.node import Answer, Node, install, node_and_npm, started
from keystore.errors import KeystoreError
from rig.fixtures.postgres import PostgresSite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("peers")]


@pytest.fixture(scope="module")
def node() -> str:
    """The path of Node, with the peers' packages installed."""
    programs = node_and_npm()
    if programs is None:
        pytest.skip("no node or npm here (Debian: apt-get install nodejs npm)")
    try:
        install(programs[1])
    except KeystoreError as error:
        pytest.skip(str(error))
    return programs[0]


@pytest.fixture
def peers(node: str) -> Iterator[Node]:
    """The running program."""
    with started(node) as process:
        yield process


@pytest.mark.usefixtures("node")
def test_all_three_hold_the_same_keys_and_leave_nothing_behind(
    postgres_site: PostgresSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("bench.peers.measure.WARM_UP_ROUNDS", 0)
    monkeypatch.setattr("bench.peers.measure.CALLS_PER_TURN", 2)  # The first of them doesn't count.
    file = tmp_path / "figures.json"
    code = main(["--url", postgres_site.admin_url, "--rounds", "1", "--json", str(file)])
    printed = capsys.readouterr()
    assert "error: " not in printed.err
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert figures["keys"] == 721
    met = []
    for name, limit in (("load", LOAD_LIMIT), ("burst_250", BURST_LIMIT), ("burst_812", BURST_LIMIT)):
        act = figures[name]
        assert all(act[ms] > 0 for ms in ("store_ms", "diary_ms", "files_ms", "json_ms"))
        met.append(limit.allows(act["diary_ms"] / act["store_ms"]))
    assert figures["met"] == all(met)
    assert code == (0 if all(met) else 1)
    assert printed.out.count("MISSED") == met.count(False)
    assert list(tmp_path.iterdir()) == [file]
    with psycopg.connect(postgres_site.admin_url) as conn:
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench_peers%'").fetchall() == []


def test_the_digest_differs_only_for_other_values(peers: Node) -> None:
    def look(**keys: str) -> Answer:
        return peers.ask("look at", keys={"session": keys})

    two_keys = look(a='{"x":{"type":"Buffer","data":"AQI="},"y":2}', b='{"z":1}')
    assert two_keys.keys == 2
    assert look(b='{"z":1}', a='{"y":2,"x":{"type":"Buffer","data":"AQI="}}') == two_keys
    for other in ('{"x":{"type":"Buffer","data":"AQM="},"y":2}', '{"x":{"type":"Buffer","data":"AQI="},"y":3}'):
        assert look(a=other, b='{"z":1}') != two_keys
    assert look(b='{"z":1}').keys == 1


def test_errors_of_the_program_are_one_line(peers: Node, postgres_site: PostgresSite, tmp_path: Path) -> None:
    peers.ask("open", url=postgres_site.url("nowhere"), folder=str(tmp_path))
    with pytest.raises(KeystoreError, match=r"^the peers can't do 'load': 3D000$"):
        peers.ask("load", who="legacy", company="1", ids={}, times=1)
    with pytest.raises(KeystoreError, match="the peers can't do 'nothing': TypeError"):
        peers.ask("nothing")


@pytest.mark.usefixtures("node")
def test_an_unreachable_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "s3cret-of-nobody"
    assert main(["--url", f"postgresql://nobody:{secret}@127.0.0.1:1/x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert secret not in error
    for wrong in (["--url", "sqlite:///k.db"], ["--rounds", "0"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert "error: argument --" in capsys.readouterr().err


def test_a_missing_node_is_reported_with_exit_code_2(
    postgres_site: PostgresSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measure(postgres_site.admin_url) is None
    assert main(["--url", postgres_site.admin_url]) == 2
    assert capsys.readouterr().err == "error: node or npm is not installed here, and this measurement needs both\n"
