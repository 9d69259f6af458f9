"""The API's tokens: `token create`, `token list`, `token revoke`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from api.access.tokens import create_token, in_force, revoke_token, token_lines
from commands.opening import command_settings, database
from commands.output import AsJson, UsageError, show_note, show_report
from keystore.ttl import parse_duration


def create(
    company: Annotated[str | None, typer.Option(help="The one company that the token may access.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="The token may access everything.")] = False,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long the token is valid (90d); default: forever.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it, this once."""
    if admin == (company is not None):
        raise UsageError("token create: give either --company X or --admin")
    expires_in_s = None if expires is None else parse_duration(expires, "--expires")
    with database(command_settings()) as store:
        token, made = create_token(store, company, expires_in_s)
    show_note(f"a token for {store.database}; it is shown only now")
    report = {
        "token": token,
        "token_id": made.token_id,
        "company": made.company_id,
        "expires_at": made.expires_at,
        "database": store.database,
    }
    show_report(token, report, as_json)


def list_all(as_json: AsJson = False) -> None:
    """List every token, its company, and whether it is in force. The tokens themselves are not stored."""
    with database(command_settings()) as store:
        tokens, now = store.tokens(), datetime.now(UTC)
    rows = [
        {
            "token_id": token.token_id,
            "company": token.company_id,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "revoked_at": token.revoked_at,
            "in_force": in_force(token, now),
        }
        for token in tokens
    ]
    show_note(f"tokens in {store.database}:")
    text = "\n".join(token_lines(tokens, now)) or "there are no tokens"
    show_report(text, {"database": store.database, "tokens": rows}, as_json)


def revoke(
    token_id: Annotated[str, typer.Argument(help="The token's id, as `token list` shows it.")], as_json: AsJson = False
) -> None:
    """Revoke a token: within 5 seconds it is no longer accepted."""
    with database(command_settings()) as store:
        revoke_token(store, token_id)
    report = {"database": store.database, "token_id": token_id, "revoked": True}
    show_report(f"token {token_id} is revoked in {store.database}", report, as_json)
