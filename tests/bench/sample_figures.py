"""Typed figures for tests of the tables and the report; all of them keep to every target."""

from datetime import UTC, datetime

from msgspec.structs import replace

from bench.distance import Distance, Took
from bench.gates.operations import Compared
from bench.gates.sealed import Sealed
from bench.gates.sweeping import Sweeping
from bench.idle import Idle
from bench.machine import Machine
from bench.measuring import Times
from bench.peers.measure import Act, Peers
from bench.scale.figures import (
    Beside,
    CensusTime,
    Filling,
    Gathered,
    GetsAndSets,
    Loads,
    Rewritten,
    Scale,
    ScaleMachine,
    ServerSettings,
    SessionRewrites,
    SizeFigures,
    Space,
    Sweep,
    Vacuum,
)
from bench.scale.pages import Rewrites
from bench.seat.figures import Cpu, Far, Row, Seat
from bench.storms.measure import Storms
from bench.storms.reconnect import ReconnectStorm
from bench.storms.restart import Restart
from bench.storms.steady import Steady
from bench.targets import Figures

TAKEN_AT = datetime(2026, 11, 25, 10, tzinfo=UTC)

MACHINE = Machine(
    cpu="EPYC", cores=2, memory_gb=23.5, system="Linux", python="3.11", postgres="18.0", sqlite="3.40", node=None
)

SEAT_ROW = Row(
    connect_ms=19.0,
    opened_ms=9.0,
    message=Times(times=360, p50_ms=0.4, p99_ms=2.0),
    burst_ms=3.2,
    per_s={"1": 3_000.0, "16": 9_000.0, "200": 11_000.0},
    cpu=Cpu(node_us=100.0, service_us=0.0, database_us=150.0),
    far=Far(connect_ms=120.0, message_ms=21.0),
    memory_kb=30.0,
)

SEAT = Seat(
    taken_at=TAKEN_AT,
    commit="abc123",
    machine=MACHINE,
    baileys="7.0.0",
    pg="8.1.0",
    keys=721,
    digest="00",
    rounds=9,
    round_trip_ms=20.0,
    rows={
        "straight": SEAT_ROW,
        "straight_sealed": replace(SEAT_ROW, opened_ms=14.0, memory_kb=None),
        "http": replace(SEAT_ROW, connect_ms=25.0, opened_ms=15.0),
        "http_sqlite": replace(SEAT_ROW, connect_ms=25.0, opened_ms=15.0),
        "adapter": replace(SEAT_ROW, connect_ms=22.0, memory_kb=None),
        "limit": replace(
            SEAT_ROW, connect_ms=16.0, opened_ms=6.0, message=Times(times=360, p50_ms=0.25, p99_ms=1.5), burst_ms=2.5
        ),
        "files": replace(SEAT_ROW, far=None, memory_kb=None),
        "redis_always": replace(SEAT_ROW, connect_ms=30.0, memory_kb=None),
        "redis_everysec": replace(SEAT_ROW, connect_ms=30.0, memory_kb=None),
    },
    unmeasured={},
)

ACT = Act(store_ms=1.0, diary_ms=12.5, files_ms=40.0, json_ms=4.0)


def compared(backend: str, operation: str) -> Compared:
    """An operation that takes as long as with the driver alone."""
    return Compared(backend=backend, operation=operation, store_ms=1.0, driver_ms=1.0, ratio=1.0)


def distant(round_trip_ms: float) -> Distance:
    """The figures at this round-trip time."""
    return Distance(
        round_trip_ms=round_trip_ms,
        load=Took(ms=round_trip_ms + 4.5, round_trips=1),
        reconnect=Took(ms=2 * round_trip_ms + 10.5, round_trips=2),
        diary_load=Took(ms=10 * round_trip_ms + 17, round_trips=10),
    )


def sized(companies: int, p50_ms: float, gathered_p50_ms: float | None = None, partitions: int = 0) -> SizeFigures:
    """The figures of one size, with these medians of a load before and after gathering."""
    times = Times(times=100, p50_ms=1.25, p99_ms=2.75)
    space = Space(table_mb=3.9, indexes_mb=0.7, total_mb=5.2, bytes_per_key=715)
    beside = Beside(load=times, get=times, load_alone=times, get_alone=times)
    rewritten = Rewritten(rewrites=600, heap_only_percent=99.5, per_s=700, pages=192.0)
    rewrites = SessionRewrites(each=100, pages_before=192.0, first=rewritten, again=rewritten)

    def loads(median_ms: float) -> Loads:
        load = Times(times=100, p50_ms=median_ms, p99_ms=2.75)
        return Loads(load=load, bare=times, pages=192.0, read_pages=0.0, plan="Index Scan")

    return SizeFigures(
        companies=companies,
        partitions=partitions,
        keys=721 * companies,
        fill=Filling(took_s=0.1, keys_per_s=55_151),
        size=space,
        loads_before=loads(p50_ms),
        rewrites=rewrites,
        loads_after=loads(p50_ms),
        gets_and_sets=GetsAndSets(get=times, set=times),
        census=CensusTime(ms=13),
        sweep=Sweep(deleted=200, took_s=0.01, keys_per_s=15_385, beside=beside),
        vacuum=Vacuum(took_s=0.05, dead_before=1_225, dead_after=0, pages=190.0, beside=beside),
        first_loads=None,
        gathered=Gathered(
            took_s=0.2,
            size=space,
            beside=beside,
            loads=loads(gathered_p50_ms or p50_ms),
            rewrites=rewrites,
            first_loads=None,
        ),
    )


def scale(*sizes: SizeFigures) -> Scale:
    """The figures of a run over these sizes."""
    settings = ServerSettings(
        server_version="18.4",
        shared_buffers="6GB",
        effective_cache_size="18GB",
        max_wal_size="8GB",
        random_page_cost="4",
        fsync="on",
        own=True,
    )
    machine = ScaleMachine(
        cpus=2, memory_gb=25, python="3.11", postgres=settings, load_average_before=0.5, measured_on="2026-11-25"
    )
    return Scale(machine, sizes)


FIGURES = Figures(
    compared=tuple(
        compared(backend, operation)
        for backend in ("postgresql", "sqlite")
        for operation in ("load", "get 1", "set 1", "burst 250", "burst 812")
        if backend == "postgresql" or operation in ("load", "burst 250")
    ),
    distance=tuple(map(distant, (0, 20, 50, 100))),
    peers=Peers(
        keys=721,
        digest="00",
        rounds=15,
        node="20.1.0",
        baileys="7.0.0",
        pg="8.1.0",
        keys_per_insert=100,
        load=ACT,
        burst_250=ACT,
        burst_812=ACT,
    ),
    storms=Storms(
        reconnect_storm=ReconnectStorm(
            threads=8,
            companies=100,
            rounds=5,
            store_per_s=141.0,
            bare_per_s=170.0,
            ratio=0.83,
            store_p50_ms=40.0,
            store_p95_ms=80.0,
            bare_p50_ms=30.0,
            bare_p95_ms=60.0,
        ),
        restart=Restart(accounts=90, keys_read=64_890, keys_written=22_500, took_s=1.1, slowest_ms=1_050.0),
        steady=Steady(
            companies=1_000,
            messages=20_000,
            per_s=2_000.0,
            rush_s=1.2,
            get_p95_ms=1.1,
            set_p95_ms=2.2,
            connections=8,
            pool_timeouts=0,
        ),
    ),
    rewrites=Rewrites(rewrites=10_000, heap_only_percent=99.7, pages_before=190.0, pages_after=191.0),
    sweeping=Sweeping(
        companies=300,
        due_keys=31_197,
        keys_per_s=100_000.0,
        bare_keys_per_s=125_000.0,
        ratio=0.8,
        gets_during=34_083,
        get_p50_ms=0.38,
        get_p99_ms=1.25,
        get_p50_ms_during=0.39,
        get_p99_ms_during=1.5,
        p99_ratio=1.2,
    ),
    sealed=Sealed(
        load_ms=4.0,
        plain_load_ms=2.6,
        load_ratio=1.54,
        write_ms=0.8,
        plain_write_ms=0.75,
        write_ratio=1.07,
    ),
    memory=Idle(processes=2, largest_mb=82.0, all_mb=150.0),
    scale=scale(sized(10, 1.0), sized(10_000, 1.2)),
    seat=SEAT,
)
