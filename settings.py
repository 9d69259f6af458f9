"""The one module that reads the environment, and a `.env` file beside it. Only run.py and tests import it.

Three places of an operator's bot read the environment by themselves, one of them under a wrong name, and nothing
noticed until `/db_health` was needed. So everything is read here, once, at start, and a variable of ours that
nothing reads is an error that says which one was probably meant.
"""

import difflib
import io
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from keystore.errors import InvalidInput
from keystore.ttl import DIARY, Policy, parse_duration, parse_policy

ENV_FILE = Path(__file__).parent / ".env"

OURS = ("KEYSTORE_", "TELEGRAM_")
READ_ELSEWHERE = {"KEYSTORE_TEST_URL"}
"""Variables of ours that the service itself doesn't read: the address that the tests use."""

MIN_SWEEP_EVERY_S = 60.0


class SettingsError(InvalidInput):
    """A setting can't be used; the message names it and says what would do."""


def _policy(text: Any) -> Any:
    return parse_policy(text) if isinstance(text, str) else text


def _sweep_every(text: Any) -> Any:
    seconds = parse_duration(text, "a duration") if isinstance(text, str) else text
    if seconds < MIN_SWEEP_EVERY_S:
        raise ValueError(f"{seconds:.0f} s is too often; at least {MIN_SWEEP_EVERY_S:.0f} s")
    return seconds


def _switch(text: Any) -> Any:
    words = {"on": True, "off": False}
    if isinstance(text, str) and text.strip().lower() in words:
        return words[text.strip().lower()]
    if isinstance(text, bool):
        return text
    raise ValueError(f"{text!r} is neither on nor off")


def _chats(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("expected one or more chat numbers, comma-separated, for example 123456,-100987654") from None


def _timezone(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return ZoneInfo(text.strip())
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{text!r} is no time zone; use a name such as Europe/Berlin or UTC") from None


def _time_of_day(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if text.strip().lower() == "off":
        return None
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is neither a time of day (09:00) nor off")
    return time(int(match[1]), int(match[2]))


def _no_sealing(given: Any) -> Any:
    if given is None:
        return None
    raise ValueError("this version can't seal values yet; unset it, since values would be stored unsealed")


@dataclass(frozen=True)
class HttpAddress:
    """Where the API is to be served."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _http(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if text.strip().lower() == "off":
        return None
    host, _, port = text.strip().rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT (127.0.0.1:8080) nor off")
    return HttpAddress(host, int(port))


def _rate(text: Any) -> Any:
    return None if isinstance(text, str) and text.strip().lower() == "off" else text


class Settings(BaseSettings):
    """What the operator has set; every field has its variable's name in `alias`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True)

    url: SecretStr = Field(SecretStr("sqlite:///keystore.db"), alias="KEYSTORE_URL", repr=False)
    guard: Annotated[bool, BeforeValidator(_switch)] = Field(True, alias="KEYSTORE_GUARD")
    ttl: Annotated[Policy, NoDecode, BeforeValidator(_policy)] = Field(DIARY, alias="KEYSTORE_TTL")
    secret_keys: Annotated[SecretStr | None, BeforeValidator(_no_sealing)] = Field(
        None, alias="KEYSTORE_SECRET_KEYS", repr=False
    )
    http: Annotated[HttpAddress | None, BeforeValidator(_http)] = Field(
        HttpAddress("127.0.0.1", 8080), alias="KEYSTORE_HTTP"
    )
    http_workers: int = Field(1, alias="KEYSTORE_HTTP_WORKERS", ge=1, le=64)
    http_rate: Annotated[float | None, BeforeValidator(_rate)] = Field(
        500.0, alias="KEYSTORE_HTTP_RATE", ge=0.1, allow_inf_nan=False
    )
    tls_cert: Path | None = Field(None, alias="KEYSTORE_TLS_CERT")
    tls_key: Path | None = Field(None, alias="KEYSTORE_TLS_KEY", repr=False)
    behind_proxy: Annotated[bool, BeforeValidator(_switch)] = Field(False, alias="KEYSTORE_BEHIND_PROXY")
    sweep_every_s: Annotated[float, BeforeValidator(_sweep_every)] = Field(21_600.0, alias="KEYSTORE_SWEEP_EVERY")
    load_budget_ms: float = Field(750.0, alias="KEYSTORE_LOAD_BUDGET_MS", gt=0, allow_inf_nan=False)
    connections: int = Field(8, alias="KEYSTORE_CONNECTIONS", ge=1, le=1_000)
    log: Literal["text", "json"] = Field("text", alias="KEYSTORE_LOG")
    timezone: Annotated[ZoneInfo, BeforeValidator(_timezone)] = Field(ZoneInfo("UTC"), alias="KEYSTORE_TIMEZONE")
    summary_at: Annotated[time | None, BeforeValidator(_time_of_day)] = Field(time(9), alias="KEYSTORE_SUMMARY_AT")
    memory_alert_percent: float = Field(90.0, alias="KEYSTORE_MEMORY_ALERT_PERCENT", ge=10, le=100)
    telegram_token: SecretStr | None = Field(None, alias="TELEGRAM_BOT_TOKEN", repr=False)
    telegram_chats: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_chats)] = Field((), alias="TELEGRAM_CHAT_ID")
    telegram_api_url: str = Field("https://api.telegram.org", alias="TELEGRAM_API_URL", pattern=r"^https?://\S+$")

    def require_closed_http(self) -> None:
        """Raises SettingsError where the API would be open to whoever listens on the way to it."""
        if (self.tls_cert is None) != (self.tls_key is None):
            given, lacking = ("CERT", "KEY") if self.tls_key is None else ("KEY", "CERT")
            raise SettingsError(f"KEYSTORE_TLS_{given} is set without KEYSTORE_TLS_{lacking}; set both")
        if self.http is None or self.http.loopback or self.tls_cert is not None or self.behind_proxy:
            return
        raise SettingsError(
            f"KEYSTORE_HTTP: {self.http.host} can be reached from other machines, and tokens would travel in clear; "
            "set KEYSTORE_TLS_CERT and KEYSTORE_TLS_KEY, or KEYSTORE_BEHIND_PROXY=on where a proxy does TLS, or use "
            "127.0.0.1"
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def read_settings(environment: Mapping[str, str] | None = None, env_file: Path = ENV_FILE) -> Settings:
    """The settings from the environment and `.env`; the environment wins, and an empty variable counts as not set.

    Raises SettingsError naming every variable that is unknown or can't be read. No message shows a secret.
    """
    given = {**_of_file(env_file), **(os.environ if environment is None else environment)}
    ours = {name: value for name, value in given.items() if name.startswith(OURS) and value.strip()}
    for name in READ_ELSEWHERE:
        ours.pop(name, None)
    known = [str(field.alias) for field in Settings.model_fields.values()]
    wrong = [_unknown(name, known) for name in ours if name not in known]
    if "KEYSTORE_URL" not in ours and given.get("DATABASE_URL", "").strip():
        ours["KEYSTORE_URL"] = given["DATABASE_URL"]
    try:
        settings = Settings(**{name: value for name, value in ours.items() if name in known})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong += [_invalid(details) for details in error.errors(include_url=False, include_input=False)]
    if wrong:
        raise SettingsError("; ".join(wrong))
    return settings


def environment_of_workers() -> dict[str, str]:
    """The environment without what is ours: a worker is told what it needs, and has no use for its secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS) and name != "DATABASE_URL"}


def _of_file(env_file: Path) -> dict[str, str]:
    if not env_file.is_file():
        return {}
    try:
        lines = list(parse_stream(io.StringIO(env_file.read_text(encoding="utf-8-sig"))))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{env_file}: not UTF-8; save it as UTF-8 text") from error
    except OSError as error:
        raise SettingsError(f"{env_file}: can't be read: {error.strerror}") from error
    for line in lines:
        if line.error or (line.key is not None and line.value is None):
            raise SettingsError(f"{env_file}: line {line.original.line} is not NAME=value with its quotes closed")
    return {line.key: line.value or "" for line in lines if line.key is not None}


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
    return f"{name} is set, but nothing reads it{meant}"


def _invalid(details: Any) -> str:
    told = str(details["msg"]).removeprefix("Value error, ")
    return f"{details['loc'][0]}: {told}"
