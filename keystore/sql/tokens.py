"""API tokens of a SQL backend: what is kept of them is enough to check one, and not enough to use one."""

from datetime import datetime

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import TokenRecord
from keystore.sql.dialect import SqlDialect
from keystore.sql.link import Row
from keystore.store import Upkeep

SHA256_BYTES = 32


class SqlTokens(SqlDialect, Upkeep):
    """The tokens of a store on a SQL database."""

    def add_token(self, token: TokenRecord) -> None:
        if type(token.secret_hash) is not bytes or len(token.secret_hash) != SHA256_BYTES:
            raise InvalidInput("secret_hash: not a SHA-256; keep that of the secret, never the secret itself")
        added = self._answered(
            "add_token",
            token_id=ids.checked_name("token_id", token.token_id),
            secret_hash=token.secret_hash,
            company_id=None if token.company_id is None else ids.canonical_company(token.company_id),
            created_at=self._stored_time(aware("created_at", token.created_at)),
            expires_at=token.expires_at and self._stored_time(aware("expires_at", token.expires_at)),
            revoked_at=token.revoked_at and self._stored_time(aware("revoked_at", token.revoked_at)),
        )
        if not added:
            raise InvalidInput(f"{self.database}: there is a token {token.token_id!r} already; make one of another id")

    def tokens(self) -> list[TokenRecord]:
        return [self._token(row) for row in self._answered("tokens")]

    def find_token(self, token_id: str) -> TokenRecord | None:
        rows = self._answered("find_token", token_id=ids.checked_name("token_id", token_id))
        return self._token(rows[0]) if rows else None

    def revoke_token(self, token_id: str) -> bool:
        return bool(self._answered("revoke_token", token_id=ids.checked_name("token_id", token_id)))

    def _token(self, row: Row) -> TokenRecord:
        token_id, secret_hash, company_id, created_at, expires_at, revoked_at = row
        return TokenRecord(
            token_id,
            bytes(secret_hash),
            company_id,
            self._time(created_at),
            self._optional_time(expires_at),
            self._optional_time(revoked_at),
        )


def aware(field: str, time: datetime) -> datetime:
    """`time` itself. Raises InvalidInput unless it has a time zone."""
    if time.tzinfo is None:
        raise InvalidInput(f"{field}: a time without a time zone; give an aware UTC datetime")
    return time
