"""The peers: the real Baileys and pg in Node, on the same keys as the store."""

import json
from pathlib import Path

import psycopg
import pytest

from bench.peers.__main__ import main
from bench.peers.measure import BURST_LIMIT, LOAD_LIMIT, measure
from rig.fixtures.postgres import PostgresSite

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("peers")]


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
