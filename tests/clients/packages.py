"""The client beside each Baileys, and the adapters of other databases, installed with npm.

`python3 -m tests.clients.packages` installs everything with the standard library alone; CI runs it while pip installs
the rest.
"""

import sys
from pathlib import Path

from rig.npm import CLIENT, PackagesUnavailableError, installed, installed_with_client, need_node
from rig.paths import PROJECT

ADAPTERS = PROJECT / "tests" / "clients" / "adapters"
BAILEYS = ("6", "7")
"""The major versions of Baileys."""

LONG_NAMED = PROJECT / "tests" / "clients" / "baileys-6.7"
"""The older line of Baileys 6, as `@whiskeysockets/baileys`. One test uses it. No folder above has a `baileys`."""


def peer(baileys: str) -> Path:
    """The folder of a bot with this major version of Baileys."""
    return CLIENT / "peers" / f"baileys-{baileys}"


def bot_folder(folder: Path) -> Path:
    """Install a bot's Baileys and the packed client in its folder, as its author would; return the folder."""
    return installed_with_client(folder)


def adapters_folder() -> Path:
    """Install the adapters that npm has, and return the folder of the script that writes with them."""
    return installed(ADAPTERS)


def main() -> None:
    """Build and install everything. Without Node or a way to the registry, exit with the reason."""
    try:
        need_node()
        for folder in (*map(peer, BAILEYS), LONG_NAMED):
            bot_folder(folder)
        adapters_folder()
    except PackagesUnavailableError as error:
        sys.exit(f"the npm packages can't be installed here: {error}")


if __name__ == "__main__":
    main()
