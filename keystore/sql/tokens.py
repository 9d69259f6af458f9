"""The API tokens of a SQL backend. A stored token is enough to check a secret, and not enough to use it."""

from hashlib import sha256

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import TokenRecord
from keystore.sql.base import SqlBase
from keystore.sql.link import Row
from keystore.upkeep import Tokens

MAX_COMPANIES = 1_000
"""Companies of one token."""


class SqlTokens(SqlBase, Tokens):
    """The operations on tokens."""

    def add_token(self, token: TokenRecord) -> None:
        if type(token.secret_hash) is not bytes or len(token.secret_hash) != sha256().digest_size:
            raise InvalidInput("secret_hash: not a SHA-256; keep that of the secret, never the secret itself")
        company_id, further_companies = _canonical(token)
        params = {
            "token_id": ids.checked_name("token_id", token.token_id),
            "secret_hash": token.secret_hash,
            "company_id": company_id,
            "further_companies": self.queries.list_param(further_companies),
            "created_at": self.queries.time_param(ids.checked_time("created_at", token.created_at)),
            "expires_at": token.expires_at
            and self.queries.time_param(ids.checked_time("expires_at", token.expires_at, ids.LAST_EXPIRY_YEAR)),
            "revoked_at": token.revoked_at
            and self.queries.time_param(ids.checked_time("revoked_at", token.revoked_at)),
        }
        if not self.queries.add_token(params):
            raise InvalidInput(f"{self.database}: a token {token.token_id!r} exists already; use another id")

    def tokens(self) -> list[TokenRecord]:
        return [self._token(row) for row in self.queries.run("tokens")]

    def find_token(self, token_id: str) -> TokenRecord | None:
        rows = self.queries.run("find_token", token_id=ids.checked_name("token_id", token_id))
        return self._token(rows[0]) if rows else None

    def revoke_token(self, token_id: str) -> bool:
        return bool(self.queries.run("revoke_token", token_id=ids.checked_name("token_id", token_id)))

    def _token(self, row: Row) -> TokenRecord:
        token_id, secret_hash, company_id, created_at, expires_at, revoked_at, further_companies = row
        return TokenRecord(
            token_id,
            bytes(secret_hash),
            company_id,
            self.queries.time(created_at),
            self.queries.optional_time(expires_at),
            self.queries.optional_time(revoked_at),
            self.queries.texts(further_companies),
        )


def _canonical(token: TokenRecord) -> tuple[str | None, tuple[str, ...]]:
    """Return the first company of a token, and the others, each once. Raises InvalidInput."""
    if token.company_id is None:
        if token.further_companies:
            raise InvalidInput("further_companies: an admin's token is for all companies; give company_id first")
        return None, ()
    first, *others = dict.fromkeys(ids.canonical_company(company) for company in token.companies)
    if len(others) >= MAX_COMPANIES:
        raise InvalidInput(
            f"further_companies: {len(others) + 1:,} companies; a token is for {MAX_COMPANIES:,} at most, make several"
        )
    return first, tuple(others)
