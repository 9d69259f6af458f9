"""Reads the settings: from the environment, and from env files that the service and every command share.

Three places of the original operator's bot read the environment by themselves. One of them had a wrong name, and
nobody noticed until `/db_health` was needed. So everything is read here, once, at start. A `KEYSTORE_*` or
`TELEGRAM_*` variable that nothing reads is an error, and the message suggests the name that was probably meant.
"""

import difflib
import io
import ipaddress
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv.parser import parse_stream
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from keystore.errors import InvalidInput
from keystore.records import DEFAULT_QUOTA, Quota
from keystore.sealing.secret_keys import parse_secret_keys
from keystore.ttl import DEFAULT, Policy, parse_duration, parse_policy

SYSTEM_FILE = Path("/etc/signal-keystore/env")
"""The file that the systemd unit reads, so that a command beside the unit sees the same database."""

DEFAULT_URL = "sqlite:///keystore.db"

DEFAULT_TRASH_S = 30 * 86_400.0

PREFIXES = ("KEYSTORE_", "TELEGRAM_")
"""The prefixes of the project's own variables."""

READ_ELSEWHERE = {"KEYSTORE_TEST_CITUS", "KEYSTORE_TEST_URL", "KEYSTORE_TOKEN"}
"""Variables with such a prefix that others read: the tests, and a bot, whose `.env` may be in the working folder."""

ENVIRONMENT = "the environment"
"""The name of the environment as a source of settings."""

MIN_SWEEP_EVERY_S = 60.0
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks4", "socks4a")

MOST_NAME_CHARACTERS = 40
"""Longest `KEYSTORE_NAME`: it heads each message on a phone."""


class SettingsError(InvalidInput):
    """A setting can't be used. The message names it and says which values can."""


def _is_off(text: str) -> bool:
    return text.strip().lower() == "off"


def _sweep_every(text: str) -> float:
    seconds = parse_duration(text, "a duration")
    if seconds < MIN_SWEEP_EVERY_S:
        raise ValueError(f"{seconds:.0f} s is too often; at least {MIN_SWEEP_EVERY_S:.0f} s")
    return seconds


def _trash(text: str) -> float:
    return 0.0 if _is_off(text) else parse_duration(text, "a duration")


def _switch(text: str) -> bool:
    switch = {"on": True, "off": False}.get(text.strip().lower())
    if switch is None:
        raise ValueError(f"{text!r} is neither on nor off")
    return switch


def _chats(text: str) -> tuple[tuple[int, int | None], ...]:
    """The number of each chat, and the number of its topic or None."""
    chats = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(-?[0-9]{1,18})(?::([0-9]{1,18}))?", part)
        if match is None:
            raise ValueError(
                f"{part!r} is no chat: expected its number (123456 or -1001234567890), or number:topic "
                "(-1001234567890:77) for a topic of a group; several are comma-separated"
            )
        chats.append((int(match[1]), None if match[2] is None else int(match[2])))
    return tuple(dict.fromkeys(chats))


def _proxy(text: str) -> str:
    """An address of a proxy; the message shows nothing of one that can't be used, because it may hold a password."""
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in PROXY_SCHEMES and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            f"expected SCHEME://HOST:PORT, or SCHEME://USER:PASSWORD@HOST:PORT; SCHEME is {', '.join(PROXY_SCHEMES)}"
        )
    return text.strip()


def _timezone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text.strip())
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{text!r} is no time zone; use a name such as Europe/Berlin or UTC") from None


def _time_of_day(text: str) -> time | None:
    if _is_off(text):
        return None
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is neither a time of day (09:00) nor off")
    return time(int(match[1]), int(match[2]))


def _name(text: str) -> str:
    if not text.isprintable() or len(text) > MOST_NAME_CHARACTERS:
        raise ValueError(f"expected one line of at most {MOST_NAME_CHARACTERS} characters, for example bots-berlin")
    return text


def _secret_keys(text: str) -> str:
    parse_secret_keys(text)
    return text


@dataclass(frozen=True)
class HttpAddress:
    """The address on which the API is served."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """True if only this machine can reach the address."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _http(text: str) -> HttpAddress | None:
    if _is_off(text):
        return None
    host, _, port = text.strip().rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT (127.0.0.1:8080) nor off")
    return HttpAddress(host, int(port))


class Settings(BaseModel):
    """The operator's settings. Each field's `alias` is the name of its variable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sources: tuple[str, ...] = Field((), repr=False)
    """Where settings were read, as text: the environment and files."""
    url_source: str = Field("the default, a file in the working folder", repr=False)
    """The variable or option that gave the database's address, and where it was."""
    url: SecretStr = Field(SecretStr(DEFAULT_URL), alias="KEYSTORE_URL", repr=False)
    name: Annotated[str, BeforeValidator(_name)] = Field(default_factory=socket.gethostname, alias="KEYSTORE_NAME")
    guard: Annotated[bool, BeforeValidator(_switch)] = Field(True, alias="KEYSTORE_GUARD")
    ttl: Annotated[Policy, BeforeValidator(parse_policy)] = Field(DEFAULT, alias="KEYSTORE_TTL")
    trash_s: Annotated[float, BeforeValidator(_trash)] = Field(DEFAULT_TRASH_S, alias="KEYSTORE_TRASH")
    secret_keys: Annotated[SecretStr, BeforeValidator(_secret_keys)] = Field(
        SecretStr(""), alias="KEYSTORE_SECRET_KEYS", repr=False
    )
    secret_keys_file: Path | None = Field(None, alias="KEYSTORE_SECRET_KEYS_FILE")
    http: Annotated[HttpAddress | None, BeforeValidator(_http)] = Field(
        HttpAddress("127.0.0.1", 8080), alias="KEYSTORE_HTTP"
    )
    http_workers: int = Field(1, alias="KEYSTORE_HTTP_WORKERS", ge=1, le=64)
    http_rate: Annotated[float | None, BeforeValidator(lambda text: None if _is_off(text) else text)] = Field(
        500.0, alias="KEYSTORE_HTTP_RATE", ge=0.1, allow_inf_nan=False
    )
    tls_cert: Path | None = Field(None, alias="KEYSTORE_TLS_CERT")
    tls_key: Path | None = Field(None, alias="KEYSTORE_TLS_KEY", repr=False)
    behind_proxy: Annotated[bool, BeforeValidator(_switch)] = Field(False, alias="KEYSTORE_BEHIND_PROXY")
    sweep_every_s: Annotated[float, BeforeValidator(_sweep_every)] = Field(21_600.0, alias="KEYSTORE_SWEEP_EVERY")
    load_budget_ms: float = Field(750.0, alias="KEYSTORE_LOAD_BUDGET_MS", gt=0, allow_inf_nan=False)
    company_keys: int = Field(DEFAULT_QUOTA.keys, alias="KEYSTORE_COMPANY_KEYS", ge=1)
    company_mb: int = Field(DEFAULT_QUOTA.value_bytes // 2**20, alias="KEYSTORE_COMPANY_MB", ge=1)
    connections: int = Field(8, alias="KEYSTORE_CONNECTIONS", ge=1, le=1_000)
    log: Literal["text", "json"] = Field("text", alias="KEYSTORE_LOG")
    timezone: Annotated[ZoneInfo, BeforeValidator(_timezone)] = Field(ZoneInfo("UTC"), alias="KEYSTORE_TIMEZONE")
    public_url: str = Field("", alias="KEYSTORE_PUBLIC_URL", pattern=r"^https?://\S+$")
    summary_at: Annotated[time | None, BeforeValidator(_time_of_day)] = Field(time(9), alias="KEYSTORE_SUMMARY_AT")
    memory_alert_percent: float = Field(90.0, alias="KEYSTORE_MEMORY_ALERT_PERCENT", ge=10, le=100)
    telegram_token: SecretStr | None = Field(None, alias="TELEGRAM_BOT_TOKEN", repr=False)
    telegram_chats: Annotated[tuple[tuple[int, int | None], ...], BeforeValidator(_chats)] = Field(
        (), alias="TELEGRAM_CHAT_ID"
    )
    telegram_api_url: str = Field("https://api.telegram.org", alias="TELEGRAM_API_URL", pattern=r"^https?://\S+$")
    telegram_proxy: Annotated[SecretStr | None, BeforeValidator(_proxy)] = Field(
        None, alias="TELEGRAM_PROXY", repr=False
    )

    @property
    def quota(self) -> Quota:
        """The quota of each company."""
        return Quota(self.company_keys, self.company_mb * 2**20)

    def read_secret_keys(self) -> str:
        """Return the text of the secret keys, from the setting or the file that one names; empty without either.

        Raises SettingsError, which shows no key.
        """
        text = self.secret_keys.get_secret_value()
        if self.secret_keys_file is None:
            return text
        if text:
            raise SettingsError("KEYSTORE_SECRET_KEYS and KEYSTORE_SECRET_KEYS_FILE are both set; set one of them")
        name = f"KEYSTORE_SECRET_KEYS_FILE: {self.secret_keys_file}"
        try:
            text = self.secret_keys_file.read_text(encoding="ascii")
        except UnicodeDecodeError:
            raise SettingsError(f"{name}: expected keys in base64, one a line") from None
        except OSError as error:
            raise SettingsError(f"{name}: can't be read: {error.strerror}") from error
        try:
            if not parse_secret_keys(text):
                raise SettingsError(f"{name}: there is no key in it")
        except InvalidInput as error:
            raise SettingsError(f"{name}: {error}") from None
        return text

    def require_closed_http(self) -> None:
        """Raise SettingsError if tokens would travel unencrypted between machines."""
        if (self.tls_cert is None) != (self.tls_key is None):
            present, missing = ("CERT", "KEY") if self.tls_key is None else ("KEY", "CERT")
            raise SettingsError(f"KEYSTORE_TLS_{present} is set without KEYSTORE_TLS_{missing}; set both")
        if self.http is None or self.http.loopback or self.tls_cert is not None or self.behind_proxy:
            return
        raise SettingsError(
            f"KEYSTORE_HTTP: {self.http.host} can be reached from other machines, and tokens would travel unencrypted; "
            "set KEYSTORE_TLS_CERT and KEYSTORE_TLS_KEY, or KEYSTORE_BEHIND_PROXY=on if a proxy does TLS, or use "
            "127.0.0.1"
        )


def default_files() -> tuple[Path, ...]:
    """The env files, first the ones that win: of the working folder, beside run.py, of the system."""
    return tuple(dict.fromkeys([Path.cwd() / ".env", Path(__file__).parent / ".env", SYSTEM_FILE]))


def read_settings(
    environment: Mapping[str, str] | None = None, files: Sequence[Path] | None = None, database: str | None = None
) -> Settings:
    """Return the settings of the environment and the env files; `database` is an address from the command line.

    The environment wins over the files, and each file over those after it. An empty variable counts as not set.

    Raises SettingsError, which names every variable that is unknown or has an unusable value. No message shows a
    secret.
    """
    read: dict[str, Mapping[str, str]] = {ENVIRONMENT: os.environ if environment is None else environment}
    unreadable = []
    for file in default_files() if files is None else files:
        try:
            read[str(file)] = _read_file(file)
        except FileNotFoundError:
            continue
        except PermissionError:
            unreadable.append(file)
    variables = {
        name: (value.strip(), source)
        for source, values in reversed(read.items())
        for name, value in values.items()
        if value.strip()
    }
    url, url_source = _address(variables, read, database)
    # The unit's process can't read the system's file itself: systemd has read it, and passes on what is in it.
    required = [file for file in unreadable if file != SYSTEM_FILE or url is None]
    if required:
        raise SettingsError(
            f"{required[0]}: this user can't read it; run this with sudo, or set KEYSTORE_URL if systemd has read it"
        )
    values = {name: value for name, (value, _) in variables.items() if _is_ours(name)}
    names = [field.alias for field in Settings.model_fields.values() if field.alias]
    problems = [_unknown(name, names) for name in values if name not in names]
    quoted = [name for name in values if name in names and _is_quoted(values[name])]
    problems += [f"{name}: the value has quotes around it, which this env file keeps; remove them" for name in quoted]
    sources = (*read, *(f"{file} (this user can't read it)" for file in unreadable))
    used = {name: value for name, value in values.items() if name in names and name not in quoted}
    if url is not None:
        used |= {"KEYSTORE_URL": url, "url_source": url_source}
    try:
        settings = Settings.model_validate({**used, "sources": sources})
    except ValidationError as error:
        problems += [_problem(details) for details in error.errors(include_url=False, include_input=False)]
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


def _address(
    variables: Mapping[str, tuple[str, str]], read: Mapping[str, object], database: str | None
) -> tuple[str | None, str]:
    """Return the database's address, and its source as text.

    A relative path in a file counts from the file's folder, so that it means the same database from every folder.
    """
    if database is not None:
        return database, "the command line"
    name = next((name for name in ("KEYSTORE_URL", "DATABASE_URL") if name in variables), None)
    if name is None:
        return None, ""
    url, source = variables[name]
    scheme, relative = url[: len("sqlite:///")], url[len("sqlite:///") :]
    if source != ENVIRONMENT and scheme == "sqlite:///" and relative and not relative.startswith(("/", ":")):
        if source == str(SYSTEM_FILE):
            raise SettingsError(f"{name} in {source}: a relative path; name the whole one (sqlite:////srv/keystore.db)")
        url = f"sqlite:///{quote(str(Path(source).parent / unquote(relative)))}"
    return url, f"{name} in {source}"


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIXES) and name not in READ_ELSEWHERE


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def _problem(details: ErrorDetails) -> str:
    """Return a value's problem in our own words: a library's would change with its version."""
    limits: dict[str, Any] = details.get("ctx", {})
    bound = next((limits[name] for name in ("ge", "gt", "le") if name in limits), "")
    expected = {
        "value_error": details["msg"].removeprefix("Value error, "),
        "int_parsing": "expected a whole number",
        "float_parsing": "expected a number",
        "finite_number": "expected a finite number",
        "greater_than_equal": f"expected at least {bound}",
        "greater_than": f"expected more than {bound}",
        "less_than_equal": f"expected at most {bound}",
        "literal_error": f"expected {limits.get('expected')}",
        "string_pattern_mismatch": "expected an address such as https://host.example",
    }
    return f"{details['loc'][0]}: {expected.get(details['type'], 'this value can not be used')}"


def environment_of_workers() -> dict[str, str]:
    """The environment without the project's settings: a worker gets its configuration by other means."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(PREFIXES) and name != "DATABASE_URL"
    }


def _read_file(env_file: Path) -> dict[str, str]:
    """Return the variables of an env file. Values are taken literally. Raises SettingsError, FileNotFoundError.

    This uses dotenv's parser, because `dotenv_values` skips a line that it can't read.
    """
    try:
        lines = list(parse_stream(io.StringIO(env_file.read_text(encoding="utf-8-sig"))))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{env_file}: not UTF-8; save it as UTF-8 text") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise FileNotFoundError(env_file) from error  # `.env` may be the folder of a virtual environment.
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        raise SettingsError(f"{env_file}: can't be read: {error.strerror}") from error
    for line in lines:
        if line.error or (line.key is not None and line.value is None):
            raise SettingsError(f"{env_file}: line {line.original.line} is not NAME=value with its quotes closed")
    return {line.key: line.value or "" for line in lines if line.key is not None}


def _unknown(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    suggestion = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    return f"{name} is set, but nothing reads it; {suggestion}"
