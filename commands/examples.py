"""The examples at the end of each command's help, and where to read on."""

from collections.abc import Mapping

import typer

from keystore.invocation import command
from monitor.transfer.readers.recognition import FORMATS

READ_ON = (
    "Settings are environment variables or lines of a .env file; .env.example lists them. README.md and docs/ say more."
)

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": ("serve", "check", "check --help"),
    "serve": ("serve", "serve --database-file /srv/keystore/keystore.db"),
    "migrate": ("migrate --dry-run", "migrate"),
    "check": ("check", "check --json"),
    "types": ("types", "types --json"),
    "growth": ("growth", "growth --ttl pre-key=14d,session=30d"),
    "perf": ("perf", "perf --company 962302 --rounds 20"),
    "backfill": ("backfill --dry-run", "backfill --enforce"),
    "sweep": ("sweep --dry-run", "sweep"),
    "import": (
        "import auth_info_baileys --company 962302",
        "import 962302.jsonl --dry-run",
        "import session-table.csv --company 962302 --state bot-1",
        "import backup.jsonl --company 962302",
    ),
    "export": (
        "export 962302.jsonl --company 962302",
        "export auth_info_baileys --company 962302",
        "export --all backup.jsonl",
    ),
    "verify": ("verify backup.jsonl", "verify backup.jsonl --json"),
    "trash": ("trash", "trash --company 962302 --json"),
    "restore": (
        "restore --company 962302 --dry-run",
        "restore --company 962302 --as-of 2h --fresh-sessions",
        "restore --company 962302 --creds --as-of 2026-11-26T14:30",
    ),
    "rolled-back": ("rolled-back --dry-run", "rolled-back --company 962302"),
    "purge": ("purge --company 962302 --dry-run", "purge --company 962302 --yes"),
    "repair": ("repair --dry-run", "repair"),
    "rotate": ("rotate --dry-run", "rotate"),
    "seed": ("seed", "seed --database-file demo.db"),
    "doctor": ("doctor", "doctor --json"),
    "token": ("token create --company 962302", "token list"),
    "company": ("company delete 962302 --dry-run",),
    "company delete": ("company delete 962302 --dry-run", "company delete 962302"),
    "role": ("role create --company 962302", "role list"),
    "role create": ("role create --company 962302", "role create --company 962302 --print"),
    "role list": ("role list", "role list --json"),
    "role revoke": ("role revoke bot_962302",),
    "role print": ("role print", "role print --service bots_service"),
    "token create": (
        "token create --company 962302",
        "token create --company 962302 --company 962303",
        "token create --admin --expires 90d",
    ),
    "token list": ("token list", "token list --json"),
    "token revoke": ("token revoke 0a1b2c3d4e5f",),
}
"""The arguments of example command lines, by command; the program itself has no name here."""


LISTS: Mapping[str, Mapping[str, str]] = {"import": FORMATS}
"""Lists that a command's help shows before its examples: names, and what they mean."""


def add_examples(app: typer.Typer, name: str = "") -> None:
    """Write the examples into the help of an app, its commands and its groups."""
    app.info.epilog = _epilog(name)
    for info in app.registered_commands:
        info.epilog = _epilog(f"{name} {info.name}".strip())
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_examples(group.typer_instance, f"{name} {group.name}".strip())


def _epilog(name: str) -> str | None:
    """The text after the options; `\\b` keeps its lines as they are."""
    lines = [f"  {command(example)}" for example in EXAMPLES.get(name, ())]
    names = LISTS.get(name, {})
    width = max(map(len, names), default=0)
    meanings = [f"  {item.ljust(width)}  {meaning}" for item, meaning in names.items()]
    listed = "\n".join(["\b", "Formats:", *meanings]) + "\n\n" if names else ""
    examples = listed + "\n".join(["\b", "Examples:", *lines]) if lines else ""
    return f"{examples}\n\n{READ_ON}" if not name else examples or None
