"""The service as a bot meets it: an address, a token, and restarts."""

import json
import signal
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rig.commands import Service, run, serving

COMPANY = "acme"


class Site:
    """`run.py` serving one database at one address; it can be ended and started again."""

    def __init__(self, database_url: str, home: Path, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.database_url = database_url
        self._settings = {"KEYSTORE_HTTP": f"127.0.0.1:{port}"}
        self._home = home
        self._starts = 0
        self._running = ExitStack()
        self._service: Service | None = None
        self.token = ""

    def start(self) -> None:
        """Starts it, and makes the company's token the first time."""
        self._starts += 1
        log = self._home / f"service-{self._starts}"
        self._service = self._running.enter_context(serving(log, self.database_url, cwd=self._home, **self._settings))
        if not self.token:
            made = run("token", "create", "--company", COMPANY, "--json", url=self.database_url, cwd=self._home)
            assert made.returncode == 0, made.stderr
            self.token = json.loads(made.stdout)["token"]

    def end(self, how: signal.Signals) -> None:
        """Ends it."""
        assert self._service is not None
        self._service.end(how)
        self._running.close()

    def keystore(self, **options: Any) -> dict[str, Any]:
        """What a bot gives `useKeystoreAuthState`, the token apart."""
        return {"url": self.address, "company": COMPANY, **options}

    @property
    def logs(self) -> str:
        """Everything it has logged."""
        return "".join(path.read_text(encoding="utf-8") for path in sorted(self._home.glob("service-*")))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.close()
