"""The base of the SQL store's parts: its queries, its counts of events, and the checks that the parts share."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keystore.errors import CorruptValue, LeaseLost, SchemaMismatch, WentBack
from keystore.invocation import command
from keystore.records import Quota, SealingState
from keystore.sealing.quarantine import Quarantine
from keystore.sealing.queries import CREDS, KEY_ERASED, Name
from keystore.sql.link import Link, RefusalError, Row, T
from keystore.sql.policy_table import read_policy, write_policy
from keystore.sql.queries import Queries
from keystore.sql.quota import Allowances, Usage, too_many_types
from keystore.tally import Tally
from keystore.ttl import DEFAULT, Policy
from keystore.values.codec import Opener, plain_opener

if TYPE_CHECKING:
    from keystore.sealing.sealer import SealedWrite, Sealer


class SqlBase:
    """The queries of a store, its counts of events, and facts about it."""

    def __init__(
        self, queries: Queries, quota: Quota, sealer: "Sealer | None" = None, *, sealing: SealingState = "off"
    ) -> None:
        self.queries = queries
        self._sealer = sealer
        self._sealing: SealingState = sealing
        self._quarantine = Quarantine(queries)
        self._tally = Tally(queries.save_counts)
        self._allowances = Allowances(quota)

    @property
    def link(self) -> Link:
        """The connections to the database."""
        return self.queries.link

    @property
    def database(self) -> str:
        return self.link.name

    @property
    def converted(self) -> bool:
        return self.queries.converted

    @property
    def durable(self) -> bool:
        return self.queries.durable

    @property
    def guards(self) -> bool:
        return self.queries.guard

    @property
    def policy(self) -> Policy:
        return read_policy(self.link, self.queries.sql) or DEFAULT

    def replace_policy(self, policy: Policy) -> None:
        """Write `policy` into the database, in place of the former one, at the time of the store's clock."""
        write_policy(self.link, self.queries.sql, policy, self.queries.now_param())

    def now(self) -> datetime:
        return self.queries.now()

    def close(self) -> None:
        if self.link.usable:
            self._tally.close()
        self.link.close()

    def _require_converted(self) -> None:
        """Raise SchemaMismatch on a legacy database, where values can't be read or written yet."""
        if not self.converted:
            raise SchemaMismatch(
                f"{self.database}: the values are not converted yet: only the watch is attached here. Stop the bot, "
                f"run `{command('migrate')}`, then let it use this store"
            )

    @contextmanager
    def _refused(self, company: str, epoch: int | None) -> Iterator[None]:
        """If a rule in the database refuses a write in this block, raise an error that says why."""
        try:
            yield
        except RefusalError as refused:
            facts = refused.details
            match refused.reason:
                case "KS001":
                    raise _wrong_epoch(company, epoch, facts["holder"], facts["epoch"]) from None
                case "KS002":
                    before = Usage(facts["keys"], facts["bytes"])
                    after = Usage(facts["keys_after"], facts["bytes_after"])
                    raise self._allowances.exceeded(company, before, after) from None
                case "KS007":
                    raise WentBack(
                        f"{company}: nothing was written, because the database went back to an older state: its latest "
                        f"write is number {facts['seq']}, and a later one was acknowledged; write the whole state again"
                    ) from None
                case "KS003":
                    raise too_many_types(company, facts["types"]) from None
            raise

    # Values.

    def _opener(self, company: str) -> Opener:
        """Return a function that opens the stored values of a company."""
        return plain_opener(company) if self._sealer is None else self._sealer.opener(company)

    def _write_sealed(
        self,
        sealer: "Sealer",
        company: str,
        values: Sequence[tuple[str, str, bytes]],
        compared: Collection[Name],
        write: "Callable[[SealedWrite], T]",
    ) -> T:
        """Seal values and write them. If the company was purged meanwhile, seal them with its new data key."""
        while True:
            sealed = sealer.seal(company, values, compared)
            try:
                return write(sealed)
            except RefusalError as refused:
                if refused.reason != KEY_ERASED:
                    raise
                sealer.keys.forget(company)

    def _opened_creds(self, company: str, stored: bytes) -> bytes:
        """Return the creds of their stored form. Raises CorruptValue: without creds a bot would pair once more."""
        try:
            return self._opener(company)(*CREDS, stored)
        except CorruptValue as error:
            self._quarantine.put(company, CREDS, error)
            raise

    def _readable(self, company: str, stored: Iterable[tuple[str, str, bytes]]) -> dict[Name, bytes]:
        """Return the values of those stored forms that can be read. The others are put into quarantine."""
        open_value = self._opener(company)
        values: dict[Name, bytes] = {}
        for key_type, key_id, form in stored:
            try:
                values[key_type, key_id] = open_value(key_type, key_id, form)
            except CorruptValue as error:
                self._quarantine.put(company, (key_type, key_id), error)
        return values

    # Counting events.

    def _count_events(self, company_id: str, events: Iterable[tuple[Any, str, int]]) -> None:
        """Count events `(event, key_type, keys)` by the hour."""
        named = [(event, self.queries.counted_as(key_type), keys) for event, key_type, keys in events]
        self._tally.add(company_id, self.queries.clock_time() or datetime.now(UTC), named)

    def _by_type(self, rows: Iterable[Row]) -> dict[str, int]:
        """Return the number of keys of each type, from rows `(key_type, keys)`."""
        by_type: dict[str, int] = {}
        for key_type, keys in rows:
            name = self.queries.counted_as(key_type)
            by_type[name] = by_type.get(name, 0) + keys
        return by_type


def _wrong_epoch(company: str, epoch: int | None, holder: str | None, live_epoch: int | None) -> LeaseLost:
    """Return the error of a write whose epoch isn't that of the live lease; `live_epoch` is None without one."""
    if live_epoch is None:
        reason = f"the lease with epoch {epoch} has run out or was ended; stop writing, and acquire it again to go on"
    elif epoch is None:
        reason = (
            f"{holder} has the lease (epoch {live_epoch}) and this write carries no epoch; stop {holder}, or wait "
            "until its lease ends"
        )
    else:
        reason = f"{holder} has the lease (epoch {live_epoch}) and this write carries {epoch}; stop writing"
    return LeaseLost(f"{company}: nothing was written, because {reason}")
