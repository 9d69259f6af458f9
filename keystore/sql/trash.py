"""The trash of a SQL backend: its list, what is in it, its emptying, and the erasure of a company."""

import structlog

from keystore import ids
from keystore.records import Deletion, KeyRow
from keystore.sql.base import SqlBase
from keystore.upkeep import Trash
from keystore.values import codec

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
        for key_type, key_id, stored, *times, never in self.queries.run_upkeep(
            "deleted_rows", company_id=company, trashed_at=self.queries.time_param(deletion.trashed_at)
        ):
            value = codec.decode(stored, f"{company} {key_type or 'creds'} {key_id}".rstrip())
            created_at, updated_at, expires_at = (self.queries.optional_time(time) for time in times)
            if not key_type:
                creds = value
                continue
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
            return self.link.work(lambda run: self.queries.purge(run, company))
