"""Writes keys behind the store's back, on either backend: what a company could write before there was a limit."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg

from rig.fixtures.clock import START

LONG = "x" * 230


def flood(url: str, company: str, types: int, keys: int = 1, value: bytes = b"\0V") -> None:
    """Give the company this many types of up to 247 characters, `type 0` first; all of their keys have expired."""
    names = [f"type {n}" if n in (0, types - 1) else f"type {n} {LONG}" for n in range(types)]
    rows = [(company, name, f"{n}", value) for name in names for n in range(keys)]
    expires_at = START - timedelta(hours=1)
    if url.startswith("sqlite"):
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        written_us, expired_us = ((time - epoch) // timedelta(microseconds=1) for time in (START, expires_at))
        insert = f"INSERT INTO whatsapp_keys VALUES (?, ?, ?, ?, {written_us}, {written_us}, {expired_us}, NULL)"
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            file.executemany(insert, rows)
        return
    columns = "company_id, key_type, key_id, value, created_at, updated_at, expires_at"
    with (
        psycopg.connect(url) as connection,
        connection.cursor().copy(f"COPY whatsapp_keys ({columns}) FROM STDIN") as copy,
    ):
        copy.set_types(["text", "text", "text", "bytea", "timestamptz", "timestamptz", "timestamptz"])
        for row in rows:
            copy.write_row((*row, START, START, expires_at))
