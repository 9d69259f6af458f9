"""What the watch writes down: counts by the hour, and by the day lives and a forecast to be judged later."""

import structlog

from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.forecast.backtest import is_kept, keep, record_of, widening
from monitor.forecast.forecast import forecast
from monitor.forecast.history import record
from monitor.growth import observe

log = structlog.get_logger()


def write_journal(store: Store) -> None:
    """Adds what is due to the history. Raises what the store raises."""
    census = record(store)
    if census is None or is_kept(store, census.taken_at):
        return
    widened = widening(record_of(store, census))
    made = forecast(observe(store, census), widened=widened)
    if made is not None:
        keep(store, made, widened)


def try_journal(store: Store) -> None:
    """The same beside other work: a failure is logged and fails nothing else."""
    try:
        write_journal(store)
    except KeystoreError as error:
        log.warning("journal_not_written", error=str(error))
