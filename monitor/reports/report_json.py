"""Reports as JSON documents. Their field names are public."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from monitor.backup.verify import VerifyReport
from monitor.forecast.forecast import Forecast
from monitor.reports.doctor import DoctorCheck, DoctorReport
from monitor.reports.perf import PerfReport
from monitor.sweeper import SweepReport
from monitor.transfer.state import TransferReport
from monitor.upkeep.backfill import BackfillReport
from monitor.upkeep.repair import RepairReport

PROPERTIES: Mapping[type, tuple[str, ...]] = {
    BackfillReport: ("keys",),
    DoctorCheck: ("verdict",),
    DoctorReport: ("healthy", "verdict"),
    Forecast: ("keys_in_days",),
    PerfReport: ("verdict",),
    RepairReport: ("keys",),
    SweepReport: ("keys",),
    TransferReport: ("partial",),
    VerifyReport: ("good",),
}
"""The properties that belong to a report's JSON, after its fields."""


def as_json(report: Any) -> str:
    """The report as a JSON document; times in ISO 8601 with their zone."""
    return json.dumps(report, ensure_ascii=False, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if not is_dataclass(value):
        raise TypeError(f"a report holds a {type(value).__name__}, which has no JSON")
    # A field that `repr` leaves out is left out here as well: secrets, and long series of numbers.
    names = [field.name for field in fields(value) if field.repr]
    return {name: getattr(value, name) for name in (*names, *PROPERTIES.get(type(value), ()))}
