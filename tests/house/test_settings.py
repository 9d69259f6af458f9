"""Settings are read in one place. A refusal names the variable and a usable value, and never shows a secret."""

import base64
import os
import socket
from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from keystore.records import DEFAULT_QUOTA, Quota
from keystore.ttl import DEFAULT, DIARY
from rig.paths import PROJECT
from settings import HttpAddress, Settings, SettingsError, environment_of_workers, read_settings

SECRET = "S3CRET"
TOKEN = f"123456:{SECRET}-{'x' * 30}"


def read(tmp_path: Path, file: str = "", **environment: str) -> Settings:
    env_file = tmp_path / ".env"
    env_file.write_text(file, encoding="utf-8")
    return read_settings(environment, [env_file])


def test_the_defaults_are_the_designs(tmp_path: Path) -> None:
    settings = read_settings({}, [tmp_path / "absent"])
    assert settings.url.get_secret_value() == "sqlite:///keystore.db"
    assert (settings.guard, settings.ttl, settings.http) == (True, DEFAULT, HttpAddress("127.0.0.1", 8080))
    assert (settings.sweep_every_s, settings.load_budget_ms, settings.quota) == (6 * 3600, 750, DEFAULT_QUOTA)
    assert settings.name == socket.gethostname()
    assert (settings.telegram_token, settings.telegram_chats) == (None, ())
    assert (settings.timezone, settings.summary_at, settings.memory_alert_percent) == (ZoneInfo("UTC"), time(9), 90)


def test_everything_can_be_set(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        KEYSTORE_URL="postgresql://bot:x@db/bots",
        KEYSTORE_NAME="bots-berlin",
        KEYSTORE_GUARD="off",
        KEYSTORE_TTL="diary",
        KEYSTORE_HTTP="off",
        KEYSTORE_SWEEP_EVERY="90m",
        KEYSTORE_TRASH="7d",
        KEYSTORE_LOAD_BUDGET_MS="300.5",
        KEYSTORE_CONNECTIONS="3",
        KEYSTORE_COMPANY_KEYS="5000",
        KEYSTORE_COMPANY_MB="32",
        KEYSTORE_LOG="json",
        KEYSTORE_HTTP_WORKERS="2",
        KEYSTORE_HTTP_RATE="off",
        KEYSTORE_TLS_CERT="/etc/tls/cert.pem",
        KEYSTORE_TLS_KEY="/etc/tls/key.pem",
        KEYSTORE_BEHIND_PROXY="on",
        TELEGRAM_BOT_TOKEN=TOKEN,
        TELEGRAM_CHAT_ID="123, -100456, -100456:77, 123",
        TELEGRAM_PROXY="socks5h://user:pass@proxy:1080",
        KEYSTORE_PUBLIC_URL="https://keys.example/",
        TELEGRAM_API_URL="http://127.0.0.1:1234",
        KEYSTORE_TIMEZONE="Europe/Berlin",
        KEYSTORE_SUMMARY_AT="off",
        KEYSTORE_MEMORY_ALERT_PERCENT="85",
    )
    assert settings.url.get_secret_value() == "postgresql://bot:x@db/bots"
    assert (settings.name, settings.guard, settings.ttl, settings.http) == ("bots-berlin", False, DIARY, None)
    assert (settings.sweep_every_s, settings.load_budget_ms, settings.connections) == (5_400, 300.5, 3)
    assert (settings.trash_s, read(tmp_path, KEYSTORE_TRASH="off").trash_s) == (7 * 86_400, 0)
    assert settings.quota == Quota(5_000, 32 * 2**20)
    assert settings.log == "json"
    assert (settings.http_workers, settings.http_rate, settings.behind_proxy) == (2, None, True)
    assert (settings.tls_cert, settings.tls_key) == (Path("/etc/tls/cert.pem"), Path("/etc/tls/key.pem"))
    assert settings.telegram_token is not None
    assert settings.telegram_token.get_secret_value() == TOKEN
    assert settings.telegram_chats == ((123, None), (-100456, None), (-100456, 77))
    assert settings.telegram_proxy is not None
    assert settings.telegram_proxy.get_secret_value() == "socks5h://user:pass@proxy:1080"
    assert settings.public_url == "https://keys.example/"
    assert settings.telegram_api_url == "http://127.0.0.1:1234"
    assert (settings.timezone, settings.summary_at) == (ZoneInfo("Europe/Berlin"), None)
    assert settings.memory_alert_percent == 85
    assert read(tmp_path, KEYSTORE_SUMMARY_AT="7:05").summary_at == time(7, 5)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = 'KEYSTORE_GUARD=off  # a comment\nKEYSTORE_HTTP="off"\nOTHER=thing\n'
    settings = read(tmp_path, file, KEYSTORE_GUARD="on")
    assert (settings.guard, settings.http) == (True, None)


def test_a_password_in_the_file_is_read_literally(tmp_path: Path) -> None:
    url = "postgresql://bot:a$HOME%23b@db/bots"
    assert read(tmp_path, f"KEYSTORE_URL={url}\n").url.get_secret_value() == url


def test_database_url_is_read_if_keystore_url_is_not_set(tmp_path: Path) -> None:
    assert read(tmp_path, DATABASE_URL="postgresql://a/b").url.get_secret_value() == "postgresql://a/b"
    both = read(tmp_path, DATABASE_URL="postgresql://a/b", KEYSTORE_URL="sqlite:///x.db")
    assert both.url.get_secret_value() == "sqlite:///x.db"
    url_in_file = read(tmp_path, "KEYSTORE_URL=sqlite:////srv/x.db", DATABASE_URL="postgresql://a/b")
    assert url_in_file.url.get_secret_value() == "sqlite:////srv/x.db"


def test_the_first_file_wins_and_each_that_was_read_is_named(tmp_path: Path) -> None:
    files = [tmp_path / name / ".env" for name in ("working", "program", "system")]
    for file, text in zip(files, ("", "KEYSTORE_GUARD=off\n", "KEYSTORE_GUARD=on\nKEYSTORE_LOG=json\n"), strict=True):
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
    files[0].unlink()
    settings = read_settings({}, files)
    assert (settings.guard, settings.log) == (False, "json")
    assert settings.sources == ("the environment", str(files[1]), str(files[2]))


def test_the_address_says_where_it_was(tmp_path: Path) -> None:
    assert read_settings({}, []).url_source == "the default, a file in the working folder"
    assert read(tmp_path, DATABASE_URL="postgresql://a/b").url_source == "DATABASE_URL in the environment"
    assert read(tmp_path, "KEYSTORE_URL=sqlite:////srv/x.db").url_source == f"KEYSTORE_URL in {tmp_path / '.env'}"
    chosen = read_settings({"KEYSTORE_URL": "sqlite:///x.db"}, [], "sqlite:///y.db")
    assert (chosen.url.get_secret_value(), chosen.url_source) == ("sqlite:///y.db", "the command line")


def test_a_relative_path_in_a_file_counts_from_its_folder(tmp_path: Path) -> None:
    settings = read(tmp_path, "KEYSTORE_URL=sqlite:///data/k%20b.db")
    assert settings.url.get_secret_value() == f"sqlite:///{tmp_path}/data/k%20b.db"


def test_a_relative_path_in_the_systems_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    monkeypatch.setattr("settings.SYSTEM_FILE", file)
    file.write_text("KEYSTORE_URL=sqlite:///keystore.db", encoding="utf-8")
    with pytest.raises(SettingsError, match="a relative path"):
        read_settings({}, [file])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_this_user_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("KEYSTORE_GUARD=off", encoding="utf-8")
    file.chmod(0)
    with pytest.raises(SettingsError, match="can't read it"):
        read_settings({"KEYSTORE_URL": "sqlite:////srv/x.db"}, [file])
    monkeypatch.setattr("settings.SYSTEM_FILE", file)
    with pytest.raises(SettingsError, match="can't read it"):
        read_settings({}, [file])
    settings = read_settings({"KEYSTORE_URL": "sqlite:////srv/x.db"}, [file])
    assert settings.sources[-1] == f"{file} (this user can't read it)"


def test_a_folder_called_env_is_no_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert read_settings({}, [tmp_path / ".env"]).sources == ("the environment",)


def test_white_space_around_a_value_is_no_part_of_it(tmp_path: Path) -> None:
    settings = read(
        tmp_path, KEYSTORE_URL="sqlite:////srv/x.db \r\n", KEYSTORE_LOG="json\r", TELEGRAM_BOT_TOKEN=f"{TOKEN}\r"
    )
    assert (settings.url.get_secret_value(), settings.log) == ("sqlite:////srv/x.db", "json")
    assert settings.telegram_token is not None
    assert settings.telegram_token.get_secret_value() == TOKEN


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_a_value_are_named(tmp_path: Path, quote: str) -> None:
    with pytest.raises(SettingsError, match="KEYSTORE_URL: the value has quotes around it"):
        read(tmp_path, KEYSTORE_URL=f"{quote}sqlite:////srv/x.db{quote}")


def test_a_bots_token_in_the_working_folders_file_is_not_ours(tmp_path: Path) -> None:
    assert read(tmp_path, f"KEYSTORE_TOKEN={TOKEN}\n").guard


def test_a_mistyped_preset_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"KEYSTORE_TTL: .*did you mean careful\?"):
        read(tmp_path, KEYSTORE_TTL="carefull")


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    settings = read(tmp_path, KEYSTORE_URL="", KEYSTORE_TTL=" ", TELEGRAM_BOT_TOKEN="")
    assert settings.url.get_secret_value() == "sqlite:///keystore.db"
    assert settings.telegram_token is None


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("KEYSTORE_TLL", "KEYSTORE_TTL"),
        ("KEYSTORE_DATABASE_URL", "KEYSTORE_URL"),
        ("TELEGRAM_TOKEN", "TELEGRAM_BOT_TOKEN"),
        ("TELEGRAM_CHAT_IDS", "TELEGRAM_CHAT_ID"),
        ("KEYSTORE_SWEEP_INTERVAL", "KEYSTORE_SWEEP_EVERY"),
    ],
)
def test_a_variable_that_nothing_reads_is_refused_with_a_suggestion(tmp_path: Path, name: str, suggestion: str) -> None:
    message = rf"{name} is set, but nothing reads it; did you mean {suggestion}\?"
    for file, environment in (("", {name: SECRET}), (f"{name}={SECRET}\n", {})):
        with pytest.raises(SettingsError, match=message) as refusal:
            read(tmp_path, file, **environment)
        assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYSTORE_NAME", "two\nlines"),
        ("KEYSTORE_NAME", "x" * 41),
        ("KEYSTORE_GUARD", "maybe"),
        ("KEYSTORE_TTL", "pre-key=soon"),
        ("KEYSTORE_TTL", "pre-key"),
        ("KEYSTORE_HTTP", "8080"),
        ("KEYSTORE_HTTP", "0.0.0.0:99999"),
        ("KEYSTORE_HTTP", "[::1]"),
        ("KEYSTORE_HTTP_WORKERS", "0"),
        ("KEYSTORE_HTTP_WORKERS", "2.5"),
        ("KEYSTORE_HTTP_WORKERS", "65"),
        ("KEYSTORE_HTTP_WORKERS", "9" * 5_000),
        ("KEYSTORE_HTTP_RATE", "0"),
        ("KEYSTORE_HTTP_RATE", "inf"),
        ("KEYSTORE_BEHIND_PROXY", "maybe"),
        ("KEYSTORE_SWEEP_EVERY", "often"),
        ("KEYSTORE_TRASH", "a month"),
        ("KEYSTORE_SWEEP_EVERY", "5s"),
        ("KEYSTORE_LOAD_BUDGET_MS", "-1"),
        ("KEYSTORE_LOAD_BUDGET_MS", "inf"),
        ("KEYSTORE_LOAD_BUDGET_MS", "fast"),
        ("KEYSTORE_CONNECTIONS", "0"),
        ("KEYSTORE_COMPANY_KEYS", "0"),
        ("KEYSTORE_COMPANY_MB", "many"),
        ("KEYSTORE_LOG", "xml"),
        ("KEYSTORE_SECRET_KEYS", "abc"),
        ("TELEGRAM_CHAT_ID", "me"),
        ("TELEGRAM_CHAT_ID", "-1001234567890_77"),
        ("TELEGRAM_CHAT_ID", "-100:"),
        ("TELEGRAM_PROXY", "proxy:3128"),
        ("TELEGRAM_PROXY", "ftp://proxy:21"),
        ("TELEGRAM_PROXY", "http://proxy:99999"),
        ("KEYSTORE_PUBLIC_URL", "keys.example"),
        ("TELEGRAM_API_URL", "telegram"),
        ("KEYSTORE_TIMEZONE", "Mars/Olympus"),
        ("KEYSTORE_TIMEZONE", "../../etc/passwd"),
        ("KEYSTORE_SUMMARY_AT", "25:00"),
        ("KEYSTORE_SUMMARY_AT", "noon"),
        ("KEYSTORE_MEMORY_ALERT_PERCENT", "0.9"),
    ],
)
def test_an_unusable_value_is_refused_with_its_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: ") as refusal:
        read(tmp_path, **{name: value})
    assert "\n" not in str(refusal.value)
    assert "Input should" not in str(refusal.value)
    assert "String should" not in str(refusal.value)


def test_one_error_names_every_problem(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(tmp_path, KEYSTORE_TLL="7d", KEYSTORE_GUARD="maybe", TELEGRAM_CHAT_ID="me")
    assert all(name in str(refusal.value) for name in ("KEYSTORE_TLL", "KEYSTORE_GUARD", "TELEGRAM_CHAT_ID"))


def test_no_representation_shows_a_secret(tmp_path: Path) -> None:
    settings = read(tmp_path, KEYSTORE_URL=f"postgresql://bot:{SECRET}@db/bots", TELEGRAM_BOT_TOKEN=TOKEN)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


def test_the_variable_of_the_tests_changes_no_setting(tmp_path: Path) -> None:
    assert read(tmp_path, KEYSTORE_TEST_URL="postgresql://x") == read(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"\.env"):
        read_settings({}, [tmp_path / ".env"])


@pytest.mark.parametrize("line", ['KEYSTORE_URL="postgresql://bot:S3CRET@db/bots', "KEYSTORE_URL: x", "KEYSTORE_URL"])
def test_a_line_that_sets_nothing_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match="line 2") as refusal:
        read(tmp_path, f"KEYSTORE_GUARD=on\n{line}\n")
    assert SECRET not in str(refusal.value)


def test_the_example_file_names_every_setting_and_sets_none() -> None:
    example = PROJECT / ".env.example"
    named = {
        line.lstrip("# ").partition("=")[0] for line in example.read_text(encoding="utf-8").splitlines() if "=" in line
    }
    assert {field.alias for field in Settings.model_fields.values() if field.alias} <= named
    assert read_settings({}, [example]).model_dump(exclude={"sources"}) == read_settings({}, []).model_dump(
        exclude={"sources"}
    )


@pytest.mark.parametrize("address", ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "localhost:80", "off"])
def test_a_loopback_address_needs_no_tls(tmp_path: Path, address: str) -> None:
    read(tmp_path, KEYSTORE_HTTP=address).require_closed_http()


@pytest.mark.parametrize(
    "address", ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "keys.example:80", "127.0.0.1.example:80"]
)
def test_a_public_address_needs_tls_or_a_proxy(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match=r"^KEYSTORE_HTTP: .*KEYSTORE_TLS_CERT.*KEYSTORE_BEHIND_PROXY=on"):
        read(tmp_path, KEYSTORE_HTTP=address).require_closed_http()
    read(tmp_path, KEYSTORE_HTTP=address, KEYSTORE_BEHIND_PROXY="on").require_closed_http()
    read(tmp_path, KEYSTORE_HTTP=address, KEYSTORE_TLS_CERT="c", KEYSTORE_TLS_KEY="k").require_closed_http()


def test_half_of_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="KEYSTORE_TLS_CERT is set without KEYSTORE_TLS_KEY"):
        read(tmp_path, KEYSTORE_TLS_CERT="c").require_closed_http()
    with pytest.raises(SettingsError, match="KEYSTORE_TLS_KEY is set without KEYSTORE_TLS_CERT"):
        read(tmp_path, KEYSTORE_TLS_KEY="k").require_closed_http()


def test_secret_keys_come_from_a_setting_or_a_file(tmp_path: Path) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    file = tmp_path / "keys"
    file.write_text(f"{key}\n", encoding="ascii")
    assert read(tmp_path).read_secret_keys() == ""
    assert read(tmp_path, KEYSTORE_SECRET_KEYS=key).read_secret_keys() == key
    settings = read(tmp_path, KEYSTORE_SECRET_KEYS_FILE=str(file))
    assert settings.read_secret_keys().strip() == key
    assert key not in repr(settings)
    with pytest.raises(SettingsError, match="both set"):
        read(tmp_path, KEYSTORE_SECRET_KEYS=key, KEYSTORE_SECRET_KEYS_FILE=str(file)).read_secret_keys()


@pytest.mark.parametrize("content", [None, b"", b"S3CRET", b"\xff\xfe"])
def test_a_file_without_usable_keys_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match="KEYSTORE_SECRET_KEYS_FILE") as refusal:
        read(tmp_path, KEYSTORE_SECRET_KEYS_FILE=str(file)).read_secret_keys()
    assert SECRET not in str(refusal.value)


def test_a_worker_inherits_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYSTORE_URL", "TELEGRAM_BOT_TOKEN", "DATABASE_URL"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("PGSSLROOTCERT", "/ca.pem")
    environment = environment_of_workers()
    assert SECRET not in environment.values()
    assert environment["PGSSLROOTCERT"] == "/ca.pem"
