"""Made-up reports, and queries that return them and record their calls."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from keystore.records import TypeCount
from monitor.alerts.watch import Watch
from monitor.forecast.backtest import Outcome
from monitor.forecast.forecast import Forecast
from monitor.forecast.history import TableCount
from monitor.forecast.type_forecast import TypeForecast
from monitor.growth import GrowthReport, growth_of
from monitor.reports.check import CheckReport
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import DbHealth, LoadTime
from monitor.reports.perf import PerfReport
from monitor.sweeper import SweepReport
from monitor.telegram.service_queries import ServiceQueries
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import START
from tests.monitor.sample_censuses import census, run

DATABASE = "postgresql://db.example/<bots>"
CHECK = CheckReport(
    database=DATABASE,
    total=1_234,
    active=1_200,
    expired=30,
    guarded=4,
    without_expiry=5,
    companies=2,
    last_activity_at=START - timedelta(minutes=5),
    last_sweep=run(timedelta(hours=3), deleted=7),
    last_failed_sweep=None,
    expiry_enforced=False,
    pre_keys_rewritten_7d=0,
    size_bytes=1_500_000,
    taken_at=START,
    verdict="ok",
    advice=("5 keys have <no> expiry",),
)
LOAD = LoadTime("demo", 665, 123.4, 750.0)
TYPES = TypesReport(DATABASE, 10, 4, 6, (TypeCount("pre-key", 10, 4, 6, 0, 0, 1, 2),))
PERF = PerfReport(DATABASE, "demo", 12.34, 1.0, 20.0, 32.34, 665, 240_000, 900_000, "excellent", 750, True, 5)
FORECAST = Forecast(
    made_at=START,
    now=665,
    days_seen=12.0,
    equilibrium=2_400,
    days_to_equilibrium=61,
    per_type=(TypeForecast("pre-key", 251, 30.5, 0.1, 250, 7, 300, 700, 900, 500, 400),),
    path=tuple(2_400 - 1_735 * 0.95**day for day in range(366)),
    sd=tuple(14.0 * day**0.5 for day in range(366)),
)
GROWTH = replace(
    growth_of(
        census(total=665, created_24h=330, created_7d=425, oldest_created_at=START - timedelta(days=17)),
        DATABASE,
    ),
    forecast=FORECAST,
    history=tuple(
        TableCount(START - timedelta(hours=n), 665 - 2 * n + 40 * (n % 24 < 3), {}, 0) for n in range(14 * 24, -1, -1)
    ),
)
SETTINGS = WatchSettings(zone=ZoneInfo("Europe/Moscow"), name="bots <prod>", public_url="https://keys.example/")
OUTCOMES = (Outcome(7, 12, 4.2, 11.0, 11), Outcome(14, 5, 6.0, 13.5, 5))


class SampleQueries(ServiceQueries):
    """Queries with ready answers; `calls` records what was asked, and `raising` is raised instead of any answer."""

    def __init__(self, **answers: Any) -> None:
        self.settings = SETTINGS
        self.calls: list[str] = []
        self.raising: Exception | None = None
        self.until: datetime | None = None
        self.mutes: list[datetime | None] = []
        self.answers: dict[str, Any] = {
            "db_health": DbHealth(CHECK, LOAD),
            "check": CHECK,
            "types": TYPES,
            "growth": GROWTH,
            "perf": PERF,
            "sweep": SweepReport(DATABASE, 30, {"session": 10, "pre-key": 20}, 12.5),
            "status": "leader, up 3 h\nmemory 41 % of <512 MB>",
            **answers,
        }

    def db_health(self) -> DbHealth:
        answer: DbHealth = self._answer("db_health")
        return answer

    def check(self) -> CheckReport:
        answer: CheckReport = self._answer("check")
        return answer

    def types(self) -> TypesReport:
        answer: TypesReport = self._answer("types")
        return answer

    def growth(self) -> GrowthReport:
        answer: GrowthReport = self._answer("growth")
        return answer

    def perf(self) -> PerfReport:
        answer: PerfReport = self._answer("perf")
        return answer

    def sweep(self) -> SweepReport:
        answer: SweepReport = self._answer("sweep")
        return answer

    def status(self) -> str:
        answer: str = self._answer("status")
        return answer

    def mute(self, until: datetime) -> None:
        self._mute("mute", until)

    def unmute(self) -> list[str]:
        self._mute("unmute", None)
        return []

    def muted_until(self) -> datetime | None:
        return self.until

    def _answer(self, name: str) -> Any:
        self.calls.append(name)
        if self.raising is not None:
            raise self.raising
        answer = self.answers[name]
        return answer() if callable(answer) else answer

    def _mute(self, name: str, until: datetime | None) -> None:
        self.calls.append(name)
        self.until = until
        self.mutes.append(until)


class StubWatch(Watch):
    """Alerting that does nothing, for a bot on a real store."""

    def __init__(self) -> None:
        """Looks at nothing."""

    def status(self) -> str:
        return "well"

    def mute(self, until: datetime) -> None:
        """Not called in these tests."""

    def unmute(self) -> list[str]:
        """Not called in these tests."""
        return []


def without_forecast() -> GrowthReport:
    """The report on a table that has no history yet."""
    waits_for = "3 days of counted arrivals; there are 0.2"
    return replace(growth_of(census(total=665), DATABASE), forecast_waits_for=waits_for)
