"""The trash of a SQL backend: its list, what is in it, its emptying, and the erasure of a company."""

import structlog

from keystore import ids
from keystore.errors import CorruptValue
from keystore.records import Deletion, KeyRow
from keystore.sql.base import SqlBase
from keystore.upkeep import Trash

log = structlog.get_logger()


class SqlTrash(SqlBase, Trash):
    """The trash on a SQL database."""

    @property
    def trash_s(self) -> float:
        return float(self.queries.run_upkeep("trash_s")[0][0])

    def deletions(self, company_id: str | None = None) -> list[Deletion]:
        company = None if company_id is None else ids.canonical_company(company_id)
        return [
            Deletion(company, self.queries.time(trashed_at), reason, keys, bool(creds), int(value_bytes))
            for company, trashed_at, reason, keys, creds, value_bytes in self.queries.run_upkeep(
                "deletions", company_id=company
            )
        ]

    def deleted_state(self, deletion: Deletion) -> tuple[bytes | None, list[KeyRow]]:
        company = deletion.company_id
        creds, rows = None, []
        open_value = self._opener(company)
        for key_type, key_id, stored, *times, never in self.queries.run_upkeep(
            "deleted_rows", company_id=company, trashed_at=self.queries.time_param(deletion.trashed_at)
        ):
            if not key_type:
                creds = open_value("", "", stored)
                continue
            try:
                value = open_value(key_type, key_id, stored)
            except CorruptValue as error:
                log.error("deleted_value_unreadable", company_id=company, reason=str(error))
                continue
            created_at, updated_at, expires_at = (self.queries.optional_time(time) for time in times)
            written_at = created_at or updated_at or deletion.trashed_at
            rows.append(
                KeyRow(
                    key_type, key_id, value, written_at, updated_at or written_at, expires_at, never_expires=bool(never)
                )
            )
        return creds, rows

    def empty_trash(self) -> int:
        deleted = self.queries.empty_trash()
        if deleted:
            log.info("trash_emptied", database=self.database, rows=deleted)
        return deleted

    def purge(self, company_id: str) -> dict[str, int]:
        company = ids.canonical_company(company_id)
        self._require_converted()
        self._tally.save()
        with self._refused(company, None):
            erased = self.link.work(lambda run: self.queries.purge(run, company))
        if self._sealer is not None:
            self._sealer.keys.forget(company)
        return erased
