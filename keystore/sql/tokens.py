"""The API tokens of a SQL backend. A stored token is enough to check a secret, and not enough to use it."""

from hashlib import sha256

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import TokenRecord
from keystore.sql.base import SqlBase
from keystore.sql.link import Row
from keystore.upkeep import Tokens


class SqlTokens(SqlBase, Tokens):
    """The operations on tokens."""

    def add_token(self, token: TokenRecord) -> None:
        if type(token.secret_hash) is not bytes or len(token.secret_hash) != sha256().digest_size:
            raise InvalidInput("secret_hash: not a SHA-256; keep that of the secret, never the secret itself")
        added = self.queries.run(
            "add_token",
            token_id=ids.checked_name("token_id", token.token_id),
            secret_hash=token.secret_hash,
            company_id=None if token.company_id is None else ids.canonical_company(token.company_id),
            created_at=self.queries.time_param(ids.checked_time("created_at", token.created_at)),
            expires_at=token.expires_at
            and self.queries.time_param(ids.checked_time("expires_at", token.expires_at, ids.LAST_EXPIRY_YEAR)),
            revoked_at=token.revoked_at and self.queries.time_param(ids.checked_time("revoked_at", token.revoked_at)),
        )
        if not added:
            raise InvalidInput(f"{self.database}: a token {token.token_id!r} exists already; use another id")

    def tokens(self) -> list[TokenRecord]:
        return [self._token(row) for row in self.queries.run("tokens")]

    def find_token(self, token_id: str) -> TokenRecord | None:
        rows = self.queries.run("find_token", token_id=ids.checked_name("token_id", token_id))
        return self._token(rows[0]) if rows else None

    def revoke_token(self, token_id: str) -> bool:
        return bool(self.queries.run("revoke_token", token_id=ids.checked_name("token_id", token_id)))

    def _token(self, row: Row) -> TokenRecord:
        token_id, secret_hash, company_id, created_at, expires_at, revoked_at = row
        return TokenRecord(
            token_id,
            bytes(secret_hash),
            company_id,
            self.queries.time(created_at),
            self.queries.optional_time(expires_at),
            self.queries.optional_time(revoked_at),
        )
