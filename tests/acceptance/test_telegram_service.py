"""The whole service with its bot: it announces start and stop, answers commands, and never shows its token."""

import signal
from pathlib import Path

import pytest

from keystore import open_store
from rig.fixtures.telegram import CHAT, TOKEN, USERNAME, Failure, FakeTelegram, always, plain_text
from rig.program import Service, serving
from rig.waiting import eventually
from tests.acceptance.in_process import run, run_json

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("telegram_service")]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log file of the service."""
    return tmp_path / "log"


def settings(telegram: FakeTelegram) -> dict[str, str]:
    """The settings of the bot."""
    return {
        "TELEGRAM_BOT_TOKEN": telegram.token,
        "TELEGRAM_CHAT_ID": f"{CHAT}",
        "TELEGRAM_API_URL": telegram.url,
        "KEYSTORE_SUMMARY_AT": "off",  # A summary that is due now would look like an answer.
    }


def heard(telegram: FakeTelegram, words: str) -> str:
    """Wait for a message with these words; return its text."""

    def matching() -> list[str]:
        return [text for text in map(plain_text, telegram.texts()) if words in text]

    eventually(lambda: bool(matching()), f"{words!r} arrives; there is {telegram.texts()}")
    return matching()[0]


def ended(service: Service) -> int:
    """Stop the service as systemd does; return its exit code."""
    return service.end(signal.SIGTERM)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_it_announces_its_start_answers_and_stops_muted(
    kind: str, request: pytest.FixtureRequest, telegram: FakeTelegram, tmp_path: Path, log: Path
) -> None:
    url = f"sqlite:///{tmp_path}/k.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    with open_store(url) as store:
        store.set("962302", {"session": {f"{n}": b"A" for n in range(5)}}, creds=b"C")
    with serving(log, url, None, **settings(telegram)) as service:
        heard(telegram, "has started on")
        telegram.say("/db_health")
        answer = heard(telegram, "expired")
        assert "5" in answer
        assert [entry["command"] for entry in telegram.menu][:2] == ["status", "db_health"]
        telegram.say("/status")
        assert "up " in heard(telegram, "memory:")
        telegram.say("/mute 2h")
        telegram.say("/growth")
        heard(telegram, "forecast")
        assert ended(service) == 0
    assert not [text for text in telegram.texts() if " stops, after" in text], "muted"
    assert TOKEN.partition(":")[2] not in log.read_text(encoding="utf-8")
    assert service.events[-1]["event"] == "stopped"


def test_it_announces_its_stop(telegram: FakeTelegram, tmp_path: Path, log: Path) -> None:
    with serving(log, cwd=tmp_path, **settings(telegram)) as service:
        heard(telegram, "has started on")
        assert ended(service) == 0
    heard(telegram, " stops, after")


def test_an_outage_of_telegram_delays_neither_a_sweep_nor_the_end(
    telegram: FakeTelegram, tmp_path: Path, log: Path
) -> None:
    telegram.script = always(Failure.HANGING)
    with serving(log, cwd=tmp_path, **settings(telegram)) as service:
        service.logged("sweep_finished")
        eventually(lambda: bool(telegram.connections), "Telegram is asked")
        assert ended(service) == 0


def test_a_bad_token_is_reported_and_the_service_serves(telegram: FakeTelegram, tmp_path: Path, log: Path) -> None:
    telegram.script = always(Failure.UNAUTHORIZED)
    with serving(log, cwd=tmp_path, **settings(telegram)) as service:
        assert "TELEGRAM_BOT_TOKEN" in service.logged("telegram_token_rejected")["error"]
        assert ended(service) == 0
    assert TOKEN.partition(":")[2] not in log.read_text(encoding="utf-8")


def test_doctor_asks_telegram_for_the_name_of_the_bot(telegram: FakeTelegram, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    open_store(url).close()
    checks = {check["name"]: check for check in run_json("doctor", url=url, **settings(telegram))["checks"]}
    assert checks["telegram"]["status"] == "ok"
    assert USERNAME in checks["telegram"]["detail"]
    telegram.script = always(Failure.UNAUTHORIZED)
    done = run("doctor", url=url, settings=settings(telegram))
    assert done.returncode == 1
    assert "check TELEGRAM_BOT_TOKEN" in done.stdout
    assert TOKEN.partition(":")[2] not in done.stdout + done.stderr
