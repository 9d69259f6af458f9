"""The trash of a SQL backend: its list, what is in it, its emptying, and the erasure of a company."""

from abc import abstractmethod

import structlog

from keystore import ids
from keystore.records import Deletion, KeyRow
from keystore.sql.dialect import SqlDialect
from keystore.sql.link import Run
from keystore.upkeep import Trash
from keystore.values import codec

log = structlog.get_logger()


class SqlTrash(SqlDialect, Trash):
    """The trash on a SQL database."""

    @property
    def trash_s(self) -> float:
        return float(self._run_upkeep("trash_s")[0][0])

    def deletions(self, company_id: str | None = None) -> list[Deletion]:
        company = None if company_id is None else ids.canonical_company(company_id)
        return [
            Deletion(company, self._time(trashed_at), reason, keys, bool(creds), int(value_bytes))
            for company, trashed_at, reason, keys, creds, value_bytes in self._run_upkeep(
                "deletions", company_id=company
            )
        ]

    def deleted_state(self, deletion: Deletion) -> tuple[bytes | None, list[KeyRow]]:
        company = deletion.company_id
        creds, rows = None, []
        for key_type, key_id, stored, *times, never in self._run_upkeep(
            "deleted_rows", company_id=company, trashed_at=self._time_param(deletion.trashed_at)
        ):
            value = codec.decode(stored, f"{company} {key_type or 'creds'} {key_id}".rstrip())
            created_at, updated_at, expires_at = (self._optional_time(time) for time in times)
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
        deleted = self._empty_trash()
        if deleted:
            log.info("trash_emptied", database=self.database, rows=deleted)
        return deleted

    @abstractmethod
    def _empty_trash(self) -> int:
        """Delete what has been in the trash for long enough, and return the number of rows."""

    def purge(self, company_id: str) -> dict[str, int]:
        company = ids.canonical_company(company_id)
        self._require_converted()
        self._tally.save()
        return self.link.work(lambda run: self._purge(run, company))

    @abstractmethod
    def _purge(self, run: Run, company: str) -> dict[str, int]:
        """Erase a company in a transaction, and return the rows by table. Raises LeaseLost while its lease lives."""
