"""Lost writes: the database acknowledged them to a bot, and doesn't have them any more.

It went back: a backup was restored, or a server failed over to a replica that was behind. The bot has the newer state
in its memory.
"""

import json
from datetime import datetime, timedelta

import structlog

from keystore.ids import canonical_company
from keystore.upkeep import Upkeep
from monitor.note_names import WENT_BACK
from monitor.recent_notes import recent_notes

REMEMBERED_FOR = timedelta(days=1)
"""Time for which a report of lost writes is remembered."""

log = structlog.get_logger()


def report_lost_writes(store: Upkeep, company_id: str, stored: tuple[int, int], acknowledged: tuple[int, int]) -> None:
    """Log that the `(epoch, seq)` acknowledged to a bot is above the stored one, and save a note for the watch.

    Raises what the store raises.
    """
    company = canonical_company(company_id)
    log.critical(
        "database_went_back",
        company_id=company,
        stored_epoch=stored[0],
        stored_seq=stored[1],
        acknowledged_epoch=acknowledged[0],
        acknowledged_seq=acknowledged[1],
    )
    store.remember(f"{WENT_BACK}{company}", json.dumps({"stored": stored, "acknowledged": acknowledged}))


def lost_writes(store: Upkeep, now: datetime) -> dict[str, str]:
    """Describe the lost writes of each company that were reported in the last day. Raises what the store raises."""
    lost = {}
    for company_id, note in recent_notes(store, WENT_BACK, now, REMEMBERED_FOR):
        try:
            numbers = json.loads(note.document)
            (epoch, seq), (later_epoch, later_seq) = numbers["stored"], numbers["acknowledged"]
        except (KeyError, TypeError, ValueError):  # A later version wrote it.
            continue
        lost[company_id] = (
            f"write {later_seq:,} of epoch {later_epoch:,} was acknowledged to its bot, and the database's latest "
            f"write is {seq:,} of epoch {epoch:,}"
        )
    return lost
