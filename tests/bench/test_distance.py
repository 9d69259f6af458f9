"""Distance: the relay delays as it should, a load takes one round trip and a reconnect two."""

import json
from pathlib import Path
from time import perf_counter

import psycopg
import pytest

from bench.distance import main
from keystore import open_store
from rig.fixtures.postgres import PostgresSite
from rig.relay import relay_to

pytestmark = pytest.mark.slow

ROUND_TRIP_MS = 60.0


def test_a_relay_delays_each_round_trip_as_it_should(migrated_postgres_url: str) -> None:
    with (
        relay_to(migrated_postgres_url, ROUND_TRIP_MS / 1000) as relay,
        psycopg.connect(relay.url(migrated_postgres_url), autocommit=True) as far,
    ):
        for statement in ("SELECT 1", "SELECT repeat('x', 1000000)"):
            times_ms = []
            for _ in range(5):  # The fastest counts: another program may have delayed the others.
                before, began = relay.round_trips, perf_counter()
                far.execute(statement).fetchall()
                times_ms.append((perf_counter() - began) * 1000)
                assert relay.round_trips - before == 1
            assert ROUND_TRIP_MS <= min(times_ms) < 3 * ROUND_TRIP_MS, "a large answer takes one round trip too"


def test_a_store_survives_a_cut_of_a_distant_connection(migrated_postgres_url: str) -> None:
    with (
        relay_to(migrated_postgres_url, ROUND_TRIP_MS / 1000) as relay,
        open_store(relay.url(migrated_postgres_url)) as store,
    ):
        store.set("1", {"session": {"a": b"1"}})
        assert relay.cut()
        assert store.get("1", "session", ["a"]) == {"a": b"1"}


def test_a_load_takes_one_round_trip_and_a_reconnect_two(
    postgres_site: PostgresSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    code = main(["--url", postgres_site.admin_url, "--ms", "0", "40", "--rounds", "3", "--json", str(file)])
    near, far = json.loads(file.read_text(encoding="utf-8"))
    assert (near["round_trip_ms"], far["round_trip_ms"]) == (0, 40)
    for distance in (near, far):
        round_trips = {act: distance[act]["round_trips"] for act in ("load", "reconnect", "diary_load")}
        assert round_trips == {"load": 1, "reconnect": 2, "diary_load": 10}
    assert far["load"]["ms"] >= 40
    assert far["diary_load"]["ms"] >= 400
    assert code == (0 if near["met"] and far["met"] else 1)
    assert capsys.readouterr().out.count("MISSED") == [near["met"], far["met"]].count(False)
    with psycopg.connect(postgres_site.admin_url) as conn:
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench_distance%'").fetchall() == []


def test_wrong_options_are_one_line(postgres_site: PostgresSite, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "s3cret-of-nobody"
    assert main(["--url", f"postgresql://nobody:{secret}@127.0.0.1:1/x", "--ms", "0"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert secret not in error
    for wrong in (["--url", "sqlite:///k.db"], ["--url", postgres_site.admin_url, "--ms", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert "error: argument --" in capsys.readouterr().err
