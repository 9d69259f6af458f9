"""Bots that write all the time, and the check that the store has what they were acknowledged."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from keystore import Store
from rig.waiting import eventually
from tests.acceptance.in_process import run_json
from tests.clients.node_process import NodeProcess

WRITERS = Path(__file__).with_suffix(".mjs")
STOP_WITHIN_S = 120.0


class Writers(NodeProcess):
    """A Node process whose accounts write one version after the other, as fast as they are acknowledged."""

    def __init__(self, folder: Path, url: str, token: str, accounts: Sequence[str], **options: Any) -> None:
        self.accounts = accounts
        self.acknowledged: dict[tuple[str, str], int] = {}
        """The latest acknowledged version by account and id."""
        self.operations = 0
        self.retries = self.went_back = 0
        self.ended: list[str] = []
        """The reason why the store refused an account, for each that it refused."""
        self.longest_silence_s = 0.0
        self._latest = monotonic()
        super().__init__(folder, WRITERS)
        self._say(json.dumps({"url": url, "token": token, "accounts": list(accounts), "options": options}))

    def await_all(self) -> None:
        """Wait until every account is open, and has written."""
        eventually(
            lambda: {account for account, _ in self.acknowledged} == set(self.accounts), "every account writes", 60
        )

    def await_progress(self, within_s: float = 60.0, accounts: Sequence[str] | None = None) -> None:
        """Wait until every account has written once more than now, or each of some."""
        before, awaited = self._versions(), self.accounts if accounts is None else accounts

        def has_gone_on() -> bool:
            now = self._versions()
            return all(now[account] > before[account] for account in awaited)

        eventually(
            has_gone_on,
            "every account goes on",
            within_s,
        )

    def stop(self) -> None:
        """Let the writes under way end, and close every account."""
        self._say("stop")
        self._process.wait(STOP_WITHIN_S)
        self._reader.join(10)

    def lost(self, store: Store) -> list[str]:
        """Describe every acknowledged write that the store hasn't, or has in part."""
        problems = []
        for account in self.accounts:
            keys = store.load(account).keys
            sessions, pre_keys = keys.get("session", {}), keys.get("pre-key", {})
            if sessions != pre_keys:
                problems.append(f"{account}: a write is there in part")
            for (of_account, key_id), version in self.acknowledged.items():
                if of_account != account:
                    continue
                stored = json.loads(sessions.get(key_id, b'{"version":0}'))["version"]
                if stored < version:
                    problems.append(f"{account} {key_id}: version {version} was acknowledged, and {stored} is stored")
        return problems

    def _versions(self) -> dict[str, int]:
        versions = dict.fromkeys(self.accounts, 0)
        for (account, _), version in list(self.acknowledged.items()):
            versions[account] = max(versions[account], version)
        return versions

    def _receive(self, message: dict[str, Any]) -> None:
        if "version" in message and "account" in message:
            now = monotonic()
            self.longest_silence_s = max(self.longest_silence_s, now - self._latest)
            self._latest = now
            self.operations += 1
            self.acknowledged[message["account"], message["id"]] = message["version"]
        elif "ended" in message:
            self.ended.append(message["error"])
        elif "retries" in message:
            self.retries, self.went_back = message["retries"], message["wentBack"]


def accounts(count: int) -> list[str]:
    """Return the ids of so many accounts."""
    return [f"acme{number:02}" for number in range(count)]


def token_for(database_url: str, companies: Iterable[str]) -> str:
    """Make a token of the API for these companies, and return it."""
    options = [part for company in companies for part in ("--company", company)]
    return str(run_json("token", "create", *options, url=database_url)["token"])


def report(name: str, faults: int, writers: Iterable[Writers], lost: list[str], *more: str) -> None:
    """Print the operations, the faults, what was lost and more, for docs/guarantees.md. Fails if anything was lost."""
    done = list(writers)
    operations = sum(each.operations for each in done)
    silence = max(each.longest_silence_s for each in done)
    figures = (
        *(f"{operations:,} operations", f"{faults} faults", f"longest silence {silence:.1f} s", f"lost = {len(lost)}"),
        *more,
    )
    sys.stdout.write(f"\n{name}: {', '.join(figures)}\n")
    assert lost == []
    assert [reason for each in done for reason in each.ended] == []
