"""The state of the alerts, and the mute, as notes in the store: the process that takes over alerting goes on from them.

Until the mute ends no notices go out, and alerts are judged all the same. It also holds through restarts. Functions
that take a store raise what the store raises.
"""

import json
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import structlog

from keystore.upkeep import Upkeep
from monitor.alerts.decisions import AlertState, Standing
from monitor.note_names import ALERTS, MUTE
from monitor.running.bounded_calls import ANSWER_WITHIN_S, BoundedCalls

log = structlog.get_logger()


def read_state(store: Upkeep) -> AlertState | None:
    """The stored state; None when there is none that can be read."""
    note = store.recall(ALERTS)
    try:
        return None if note is None else from_json(note.document)
    except ValueError as error:
        log.warning("alerts_not_readable", error=str(error))
        return None


def write_state(store: Upkeep, state: AlertState) -> None:
    """Store the state."""
    store.remember(ALERTS, to_json(state))


def to_json(state: AlertState) -> str:
    """The state as a document."""
    rows = [(*key, *astuple(standing)) for key, standing in sorted(state.standings.items())]
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


@dataclass
class Mute:
    """The mute as the watch knows it."""

    store: Upkeep
    questions: BoundedCalls
    until: datetime | None = None
    _set_back_by: timedelta = timedelta(0)

    def is_on(self, now: datetime) -> bool:
        """True until the mute ends."""
        return self.until is not None and now < self.until

    def refresh(self, within_s: float = ANSWER_WITHIN_S) -> None:
        """Read the stored mute."""
        until = self.questions.call(lambda: last_mute(self.store), within_s)
        if until is not None and self._set_back_by:
            until = moved = until - self._set_back_by
            self.questions.call(lambda: set_mute(self.store, moved), within_s)
        self.until, self._set_back_by = until, timedelta(0)

    def set_back(self, by: timedelta) -> None:
        """End the mute earlier by this, because the clock was set back: it lasts no longer than was asked for.
        The next `refresh` stores that."""
        self._set_back_by += by
        if self.until is not None:
            self.until -= by

    def begin(self, until: datetime) -> None:
        """Mute until then, from this moment on."""
        set_mute(self.store, until)
        self.until = until  # At once: a notice of the look that is under way must not go out either.

    def end(self, now: datetime) -> None:
        """End the mute at this moment."""
        if muted_until(self.store, now) is not None:
            self.begin(now)  # The note stays: the alerting process must see the end, and list the firing alerts.
        elif self.is_on(now):
            self.until = now

    def is_over(self, now: datetime) -> bool:
        """True when the mute has ended and that wasn't announced yet."""
        return self.until is not None and self.until <= now

    def forget(self) -> None:
        """Forget the mute, once its end is announced."""
        self.questions.call(lambda: self.store.remember(MUTE, None))
        self.until = None


def set_mute(store: Upkeep, until: datetime) -> None:
    """Let no notice go out until then."""
    store.remember(MUTE, json.dumps({"until": until.isoformat()}))


def muted_until(store: Upkeep, now: datetime) -> datetime | None:
    """The end of the mute in force; None without one."""
    until = last_mute(store)
    return until if until is not None and until > now else None


def last_mute(store: Upkeep) -> datetime | None:
    """The end, past or future, of the latest mute; None once its end was announced."""
    note = store.recall(MUTE)
    try:
        return None if note is None else _time(json.loads(note.document)["until"])
    except (ValueError, KeyError, TypeError):
        return None


def _time(stored: str | None) -> datetime | None:
    time = None if stored is None else datetime.fromisoformat(stored)
    if time is not None and time.tzinfo is None:
        raise ValueError(f"{stored} has no time zone")
    return time
