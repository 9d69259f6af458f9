"""Finds the type and id of a key in the names that adapters give it: `{type}-{id}`, with a bot's name before it.

`pre-key-1`, `bot1:pre-key-1`, `session-7:pre-key-1` (here `session-7` is the bot), `auth:bot1:creds`. Some adapters
write the id as `useMultiFileAuthState` does in file names, others as it is.
"""

from collections.abc import Iterable

from keystore.baileys import key_of_name
from monitor.transfer.state import CREDS, Name

CREDS_NAMES = ("creds", "auth_creds", "creds.json", "__creds__", "auth-creds", "credentials")

SEPARATORS = ":/|.#_-"


def key_named(name: str) -> Name | None:
    """Return the creds' name, or the type and id, that this name without anything before it says; None if it's none."""
    if name in CREDS_NAMES:
        return CREDS
    return key_of_name(name.removesuffix(".json"))


def prefixes(names: Iterable[str]) -> list[str]:
    """Return what stands before the names of keys, for each bot whose keys are among them; longest first.

    The names of the creds say it. Without creds it is what stands before the first name of a type.
    """
    names = list(names)
    parts = {prefix for name in names if (prefix := _before_creds(name)) is not None}
    if not parts:
        parts = {prefix for name in names if (prefix := _before_key(name)) is not None}
    return sorted(parts, key=lambda prefix: (-len(prefix), prefix))


def _before_creds(name: str) -> str | None:
    """Return the part of a name before one of the creds; None if there is none."""
    parts = [name.removesuffix(creds) for creds in CREDS_NAMES if name.endswith(creds)]
    return min((part for part in parts if not part or part[-1] in SEPARATORS), key=len, default=None)


def _before_key(name: str) -> str | None:
    """Return the part of a name before the first that can be a key's; None if there is none."""
    starts = [0, *(n + 1 for n, character in enumerate(name) if character in SEPARATORS)]
    return next((name[:start] for start in starts if key_named(name[start:]) is not None), None)


def split_name(name: str, before: Iterable[str]) -> tuple[str, Name | None]:
    """Return the bot's name and the key's for a name with one of these prefixes."""
    for prefix in before:
        if name.startswith(prefix):
            key = key_named(name[len(prefix) :])
            if key is not None:
                return prefix.strip(SEPARATORS), key
    return "", None
