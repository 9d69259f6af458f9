"""Writes the series that forecasts need: counts by the hour; remaining lives and a forecast by the day."""

import structlog

from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.forecast import backtest
from monitor.forecast.forecast import make_forecast
from monitor.forecast.history import record_counts
from monitor.forecast.observation import observe

log = structlog.get_logger()


def write_daily_records(store: Store) -> None:
    """Write the records that are due. Raises what the store raises."""
    census = record_counts(store)
    if census is None or backtest.is_saved(store, census.taken_at):
        return
    factor = backtest.widening(backtest.judge_saved(store, census))
    forecast = make_forecast(observe(store, census), widening_factor=factor)
    if forecast is not None:
        backtest.save(store, forecast, factor)


def try_daily_records(store: Store) -> None:
    """Write the records that are due; a failure is logged, and doesn't fail the work beside it."""
    try:
        write_daily_records(store)
    except KeystoreError as error:
        log.warning("daily_records_not_written", error=str(error))
