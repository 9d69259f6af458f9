"""Sealed values in SQLite's tables. On Postgres the functions in `postgres/functions/sealing.sql` do this."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from keystore.sealing.queries import CREDS, KEY_ERASED, Name, Reseal, SealingQueries
from keystore.sql.link import RefusalError, Run

if TYPE_CHECKING:
    from keystore.sqlite.link import SqliteLink


class SqliteSealedRows(SealingQueries):
    """The queries of sealed values in one SQLite file."""

    link: "SqliteLink"
    sql: Mapping[str, str]

    def stored_values(self, company: str, names: Sequence[Name]) -> dict[Name, bytes]:
        keys = json.dumps([name for name in names if name != CREDS], ensure_ascii=False)
        rows = self.run("stored_values", company_id=company, names=keys)
        stored: dict[Name, bytes] = {(key_type, key_id): value for key_type, key_id, value in rows}
        if CREDS in names:
            stored.update((CREDS, creds) for (creds,) in self.run("get_creds", company_id=company))
        return stored

    def reseal(self, company: str, data_key: bytes, changes: Sequence[Reseal]) -> int:
        def replace(run: Run) -> int:
            require_data_key(run, self.sql, company, data_key)
            changed = 0
            for change in changes:
                key_type, key_id = change.name
                params = {
                    "company_id": company,
                    "key_type": key_type,
                    "key_id": key_id,
                    "trashed_at": change.trashed_at,
                    "former": change.former,
                    "sealed": change.sealed,
                }
                table = "trash" if change.trashed_at is not None else "key" if key_type else "creds"
                changed += len(run(self.sql[f"reseal_{table}"], params))
            return changed

        return self.link.work(replace)


def require_data_key(run: Run, sql: Mapping[str, str], company: str, data_key: bytes | None) -> None:
    """Refuse a write, inside its transaction, that is sealed by a data key which isn't the company's any more."""
    if data_key is not None and not run(sql["hold_data_key"], {"company_id": company, "data_key": data_key}):
        raise RefusalError(KEY_ERASED, {})
