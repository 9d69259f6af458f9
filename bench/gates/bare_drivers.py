"""The drivers alone: the same rows through `psycopg` and `sqlite3` with no layer above, for comparison with the store.

Each does only the work that the operation needs: it computes no expiry, checks no guard and counts nothing. psycopg
keeps its own defaults, so it prepares statements that it runs often. Each call commits by itself.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg

from keystore.values.codec import encode

Rows = list[tuple[Any, ...]]
LIFE = timedelta(days=8)


class BarePostgres:
    """psycopg with binary results and lists. Behind a pooler, which would mix that up, it prepares nothing."""

    def __init__(self, url: str, *, prepares: bool = True) -> None:
        self.conn = psycopg.connect(url, autocommit=True, connect_timeout=5)
        if not prepares:
            self.conn.prepare_threshold = None

    def _rows(self, statement: str, params: Iterable[object], prepare: bool | None = None) -> Rows:
        with self.conn.cursor(binary=True) as cursor:
            cursor.execute(statement.encode(), list(params), prepare=prepare)
            return cursor.fetchall() if cursor.description else [(cursor.rowcount,)]

    def load(self, company: str) -> Rows:
        """Return all keys of a company."""
        return self._rows("SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = %s", [company])

    def load_creds(self, company: str) -> Rows:
        """Return the creds of a company."""
        return self._rows("SELECT creds FROM whatsapp_auth WHERE company_id = %s", [company])

    def get(self, company: str, key_type: str, key_ids: list[str]) -> Rows:
        """Return these keys of one type."""
        return self._rows(
            "SELECT key_id, value FROM whatsapp_keys "
            "WHERE company_id = %s AND key_type = %s AND key_id = ANY (%s::text[])",
            [company, key_type, key_ids],
        )

    def upsert(self, company: str, key_type: str, keys: dict[str, bytes]) -> None:
        """Write keys."""
        self._rows(
            """
            INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
            SELECT %s, %s, i, v, now(), now(), date_trunc('day', now()) + interval '8 days'
            FROM unnest(%s::text[], %s::bytea[]) AS r (i, v)
            ON CONFLICT (company_id, key_type, key_id) DO UPDATE
            SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at
            """,
            [company, key_type, list(keys), [encode(value) for value in keys.values()]],
        )

    def arrive(self, rows: list[tuple[str, str, str, bytes]], life: timedelta | None) -> None:
        """Write rows of `(company, key_type, key_id, value)` in this order, and clean up dead rows."""
        companies, key_types, key_ids, values = map(list, zip(*rows, strict=True))
        self._rows(
            """
            INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
            SELECT c, t, i, v, now(), now(), date_trunc('day', now()) + %s
            FROM unnest(%b::text[], %b::text[], %b::text[], %b::bytea[]) AS r (c, t, i, v)
            ON CONFLICT (company_id, key_type, key_id) DO UPDATE SET expires_at = excluded.expires_at
            """,
            [life, companies, key_types, key_ids, [encode(value) for value in values]],
        )
        self._rows("VACUUM whatsapp_keys", [])

    def delete_due(self, companies: list[str]) -> int:
        """Delete the expired keys of these companies and return their number."""
        statement = "DELETE FROM whatsapp_keys WHERE company_id = ANY (%s::text[]) AND expires_at <= now()"
        # A prepared statement would get a generic plan, which is slower.
        return int(self._rows(statement, [companies], prepare=False)[0][0])

    def backfill(self, limit: int) -> int:
        """Give an expiry to at most `limit` keys that have none, and return their number."""
        statement = """
            UPDATE whatsapp_keys SET expires_at = date_trunc('day', now()) + interval '8 days'
            WHERE (company_id, key_type, key_id) IN
                (SELECT company_id, key_type, key_id FROM whatsapp_keys WHERE expires_at IS NULL LIMIT %s)
            """
        return int(self._rows(statement, [limit])[0][0])

    def census(self) -> Rows:
        """Return the counts by key type."""
        return self._rows(
            """
            SELECT key_type, count(*), count(expires_at), count(*) FILTER (WHERE expires_at <= now()),
                   count(*) FILTER (WHERE created_at > now() - interval '24 hours'), max(updated_at)
            FROM whatsapp_keys GROUP BY key_type
            """,
            [],
        )

    def close(self) -> None:
        """Close the connection."""
        self.conn.close()


class BareSqlite:
    """sqlite3 with the same durability as the store."""

    def __init__(self, url: str) -> None:
        self.conn = sqlite3.connect(urlsplit(url).path[1:], timeout=10.0)
        self.conn.execute("PRAGMA synchronous = FULL")

    def _changed(self, statement: str, params: object) -> int:
        with self.conn, closing(self.conn.execute(statement, params)) as cursor:  # type: ignore[arg-type]
            return cursor.rowcount

    def load(self, company: str) -> Rows:
        """Return all keys of a company."""
        statement = "SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = ?"
        return self.conn.execute(statement, [company]).fetchall()

    def load_creds(self, company: str) -> Rows:
        """Return the creds of a company."""
        return self.conn.execute("SELECT creds FROM whatsapp_auth WHERE company_id = ?", [company]).fetchall()

    def get(self, company: str, key_type: str, key_ids: list[str]) -> Rows:
        """Return these keys of one type."""
        return self.conn.execute(
            "SELECT key_id, value FROM whatsapp_keys "
            "WHERE company_id = ? AND key_type = ? AND key_id IN (SELECT value FROM json_each(?))",
            [company, key_type, json.dumps(key_ids)],
        ).fetchall()

    def upsert(self, company: str, key_type: str, keys: dict[str, bytes]) -> None:
        """Write keys."""
        self.arrive([(company, key_type, key_id, value) for key_id, value in keys.items()], LIFE)

    def arrive(self, rows: list[tuple[str, str, str, bytes]], life: timedelta | None) -> None:
        """Write rows of `(company, key_type, key_id, value)` in this order."""
        now = _microseconds(timedelta())
        expires = None if life is None else _microseconds(life)
        with self.conn:
            self.conn.executemany(
                """
                INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (company_id, key_type, key_id) DO UPDATE
                SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at
                """,
                [(*row, encode(value), now, now, expires) for *row, value in rows],
            )

    def delete_due(self, companies: list[str]) -> int:
        """Delete the expired keys of these companies and return their number."""
        statement = """
            DELETE FROM whatsapp_keys WHERE company_id IN (SELECT value FROM json_each(?)) AND expires_at <= ?
            """
        return self._changed(statement, [json.dumps(companies), _microseconds(timedelta())])

    def backfill(self, limit: int) -> int:
        """Give an expiry to at most `limit` keys that have none, and return their number."""
        statement = """
            UPDATE whatsapp_keys SET expires_at = ? WHERE (company_id, key_type, key_id) IN
                (SELECT company_id, key_type, key_id FROM whatsapp_keys WHERE expires_at IS NULL LIMIT ?)
            """
        return self._changed(statement, [_microseconds(LIFE), limit])

    def census(self) -> Rows:
        """Return the counts by key type."""
        return self.conn.execute(
            """
            SELECT key_type, count(*), count(expires_at), sum(expires_at <= ?), sum(created_at > ?), max(updated_at)
            FROM whatsapp_keys GROUP BY key_type
            """,
            [_microseconds(timedelta()), _microseconds(timedelta(days=-1))],
        ).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self.conn.close()


Bare = BarePostgres | BareSqlite
"""A driver alone; both classes have the same methods."""


def _microseconds(from_now: timedelta) -> int:
    """The time this long from now in microseconds since 1970, as the store writes times in SQLite."""
    return (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC) + from_now) // timedelta(microseconds=1)
