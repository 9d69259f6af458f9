"""The running service for bots: an address that survives restarts, and a company with its token or its own login.

With `straight` the bots connect to the database, and the service only works beside them.
"""

import signal
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from rig.program import Service, serving
from tests.acceptance.in_process import run_json

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def login_address(database_url: str, companies: Iterable[str]) -> str:
    """Make a bot's login for these companies, and return its address."""
    options = [part for company in companies for part in ("--company", company)]
    return str(run_json("role", "create", *options, url=database_url)["address"])


class RestartableService:
    """`run.py` serving one database at one address, which can be stopped and started again."""

    def __init__(
        self,
        database_url: str,
        home: Path,
        port: int,
        *,
        straight: bool = False,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.database_url = database_url
        self.straight = straight
        self._settings = {"KEYSTORE_HTTP": f"127.0.0.1:{port}", **settings}
        self._home = home
        self._starts = 0
        self._running = ExitStack()
        self._service: Service | None = None
        self.company = ""
        self.token = ""
        self._login = ""

    def start(self) -> None:
        """Start it."""
        self._starts += 1
        log = self._home / f"service-{self._starts}"
        self._service = self._running.enter_context(serving(log, self.database_url, cwd=self._home, **self._settings))

    def admit(self, company: str, *further: str) -> None:
        """Make this the company of the bots that follow, with one token or login for it and the further companies."""
        self.company = company
        kind = "role" if self.straight else "token"
        options = [part for name in (company, *further) for part in ("--company", name)]
        made = run_json(kind, "create", *options, url=self.database_url)
        if self.straight:
            self.address, self._login = made["address"], made["login"]
        else:
            self.token = made["token"]

    def revoke(self) -> None:
        """Revoke the token or the login of the bots."""
        revoked = ("role", "revoke", self._login) if self.straight else ("token", "revoke", self.token.split("_")[1])
        run_json(*revoked, url=self.database_url)

    def stop(self, signal_sent: signal.Signals) -> None:
        """Stop it with this signal."""
        assert self._service is not None
        self._service.end(signal_sent)
        self._running.close()

    def keystore(self, **options: Any) -> dict[str, Any]:
        """A bot's options for `useKeystoreAuthState`, without the token."""
        return {"url": self.address, "company": self.company, **options}

    @property
    def logs(self) -> str:
        """All log lines since the first start."""
        return "".join(path.read_text(encoding="utf-8") for path in sorted(self._home.glob("service-*")))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.close()
