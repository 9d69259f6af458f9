"""The API's tokens: `token create`, `token list`, `token revoke`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from api.access.tokens import create_token, in_force, revoke_token, token_columns
from commands.opening import command_settings, database
from commands.output import AsJson, UsageError, show_note, show_report
from keystore.ttl import parse_duration
from monitor.reports import terminal


def create(
    company: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPANY", help="A company that the token may access; give it again for others."),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="The token may access everything.")] = False,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long the token is valid; by default, forever.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it. It can't be shown again."""
    if admin == bool(company):
        raise UsageError("token create: give either --company X or --admin")
    expires_in_s = None if expires is None else parse_duration(expires, "--expires")
    with database(command_settings()) as store:
        first, *others = company or (None,)
        token, made = create_token(store, first, expires_in_s, others)
    show_note(f"a token for {store.database}; it is shown only now")
    report = {
        "token": token,
        "token_id": made.token_id,
        "company": made.company_id,
        "companies": None if made.is_admin else made.companies,
        "expires_at": made.expires_at,
        "database": store.database,
    }
    show_report(token, report, as_json)


def list_all(as_json: AsJson = False) -> None:
    """List the tokens, and whether each is in force.

    The tokens themselves are not stored, so they can't be shown.
    """
    with database(command_settings()) as store:
        tokens, now = store.tokens(), datetime.now(UTC)
    rows = [
        {
            "token_id": token.token_id,
            "company": token.company_id,
            "companies": None if token.is_admin else token.companies,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "revoked_at": token.revoked_at,
            "in_force": in_force(token, now),
        }
        for token in tokens
    ]
    show_note(f"tokens in {store.database}:")
    listed = terminal.tokens(token_columns(token, now) for token in tokens) if tokens else "there are no tokens"
    show_report(listed, {"database": store.database, "tokens": rows}, as_json)


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="The token's id, as `token list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a token: within 5 seconds it is no longer accepted."""
    with database(command_settings()) as store:
        revoke_token(store, token_id)
    report = {"database": store.database, "token_id": token_id, "revoked": True}
    show_report(f"token {token_id} is revoked in {store.database}", report, as_json)
