"""The state of the alerts as a note in the store: the process that takes over alerting goes on from it."""

import json
from datetime import datetime

import structlog

from keystore.store import Upkeep
from monitor.alerts.decisions import AlertState, Standing
from monitor.note_names import ALERTS

log = structlog.get_logger()


def read_state(store: Upkeep) -> AlertState | None:
    """The stored state; None when there is none that can be read. Raises what the store raises."""
    note = store.recall(ALERTS)
    try:
        return None if note is None else from_json(note.document)
    except ValueError as error:
        log.warning("alerts_not_readable", error=str(error))
        return None


def write_state(store: Upkeep, state: AlertState) -> None:
    """Store the state. Raises what the store raises."""
    store.remember(ALERTS, to_json(state))


def to_json(state: AlertState) -> str:
    """The state as a document."""
    rows = [
        (rule, subject, standing.above_since, standing.firing, standing.raised_at, standing.detail)
        for (rule, subject), standing in sorted(state.standings.items())
    ]
    return json.dumps(rows, ensure_ascii=False, default=datetime.isoformat)


def from_json(document: str) -> AlertState:
    """The state in a document. Raises ValueError when the document holds none."""
    try:
        standings = {
            (str(rule), str(subject)): Standing(_time(above_since), bool(firing), _time(raised_at), str(detail))
            for rule, subject, above_since, firing, raised_at, detail in json.loads(document)
        }
        if any(standing.firing and standing.raised_at is None for standing in standings.values()):
            raise ValueError("an alert fires that was never raised")
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a state of alerts: {error}") from error
    return AlertState(standings)


def _time(stored: str | None) -> datetime | None:
    time = None if stored is None else datetime.fromisoformat(stored)
    if time is not None and time.tzinfo is None:
        raise ValueError(f"{stored} has no time zone")
    return time
