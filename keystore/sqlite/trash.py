"""The trash on SQLite: an operation puts away the rows that it deletes or replaces, in the same transaction.

On Postgres the functions in `postgres/functions/trash.sql` do this. That file explains the rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from keystore.records import CREDS_OF_A_DAY
from keystore.sql.link import Run
from keystore.values.codec import PLAIN
from keystore.values.identity import is_other_identity

MOST_TRASH_BYTES = 512 * 2**20
"""The most bytes that a company's trash may take. The latest deletion stays, however large it is."""

DAY_US = timedelta(days=1) // timedelta(microseconds=1)
"""A day in microseconds."""


@dataclass(frozen=True)
class Trash:
    """The trash of one company, for one operation in a transaction.

    All rows that the operation puts away get the time `put_at`. It is None when the trash is off.
    """

    run: Run
    sql: Mapping[str, str]
    company: str
    reason: str
    put_at: int | None

    def put_creds(self) -> None:
        """Put a copy of the creds away."""
        self._put("put_creds_away")

    def put_state(self, *, keys_only: bool = False) -> None:
        """Put a copy of the creds and all keys away, or of the keys alone."""
        if not keys_only:
            self._put("put_creds_away")
        self._put("put_keys_away")
        self.limit()

    def put_key(self, key_type: str, key_id: str, written_before: int) -> None:
        """Put a copy of a key away if it was written before a time."""
        self._put("put_key_away", key_type=key_type, key_id=key_id, written_before=written_before)

    def limit(self) -> None:
        """Remove the oldest deletions from the company's trash while it takes too many bytes."""
        if self.put_at is not None:
            self.run(self.sql["limit_trash"], {"company_id": self.company, "most_bytes": MOST_TRASH_BYTES})

    def _put(self, name: str, **params: object) -> None:
        if self.put_at is not None:
            shared = {"company_id": self.company, "put_at": self.put_at, "reason": self.reason}
            self.run(self.sql[name], {**shared, **params})


def trash_for(run: Run, sql: Mapping[str, str], company: str, reason: str, now: int) -> Trash:
    """Return the company's trash for an operation now. Its `put_at` is later than every time in the trash."""
    if run(sql["trash_s"], {})[0][0] <= 0:
        return Trash(run, sql, company, reason, None)
    ((latest,),) = run(sql["latest_trash"], {"company_id": company})
    return Trash(run, sql, company, reason, now if latest is None else max(now, latest + 1))


def put_former_away(
    run: Run, sql: Mapping[str, str], company: str, new_creds: bytes, now: int, *, other_identity: bool
) -> None:
    """Put away the state that a write of creds is about to replace.

    If the new creds are of another identity, the whole state is put away. Otherwise the former creds are put away if
    they were written on an earlier day. Sealed creds were compared by the caller, with the result `other_identity`.
    """
    rows = run(sql["former_creds"], {"company_id": company})
    if not rows or rows[0][0] == new_creds:
        return
    ((former, written_at),) = rows
    if other_identity or is_other_identity(former.removeprefix(PLAIN), new_creds.removeprefix(PLAIN)):
        trash_for(run, sql, company, "other identity", now).put_state()
    elif written_at < now // DAY_US * DAY_US:
        trash = trash_for(run, sql, company, CREDS_OF_A_DAY, now)
        trash.put_creds()
        trash.limit()
