"""The lines that a person sees when the service starts: its address, the admin token, the next step, how to stop."""

from pathlib import Path

from keystore.invocation import command


def start_banner(name: str, version: str, database: str, url: str | None, token_file: Path | None) -> str:
    """Return the lines; without a token's file they say how to make a token."""
    token = (
        f"`{command('token create --admin')}` makes one"
        if token_file is None
        else f"in the file {token_file}; sign in with it"
    )
    served = [
        ("status page", url),
        ("admin token", token),
        ("next", f"`{command('token create --company COMPANY')}` makes a bot's token; docs/http.md says how to use it"),
    ]
    lines = [
        ("database", database),
        *(served if url is not None else [("HTTP API", "off (KEYSTORE_HTTP)")]),
        ("stop", "Ctrl-C"),
    ]
    return "\n".join([f"Signal Keystore {version} on {name}", *(f"  {label:13}{text}" for label, text in lines)])
