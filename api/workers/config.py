"""What run.py tells a worker: one line on its standard input, so that no secret stands in a process list.

The pipe stays open after it. When it ends, run.py wants the worker to end or is gone itself, however that came.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from keystore.ttl import Policy

BACKLOG = 1024
"""Connections that wait to be taken, also while a worker starts again."""


@dataclass(frozen=True)
class Tls:
    """Our own certificate: two PEM files, the chain and its key."""

    cert: str
    key: str


@dataclass(frozen=True)
class WorkerConfig:
    """Everything a worker needs; it reads no settings itself. `socket` is the number of a listening socket it inherits.

    `requests_per_s` is what one token may ask of one worker, None: as much as it likes. `metrics_folder` is where
    several workers keep their counts; whoever ends last leaves nothing there.
    """

    url: str = field(repr=False)
    policy: Policy
    guard: bool
    connections: int
    log: Literal["text", "json"]
    sweep_every_s: float
    load_budget_ms: float
    requests_per_s: float | None
    tls: Tls | None
    over_tls: bool
    version: str
    socket: int = -1
    metrics_folder: str | None = None

    def line(self) -> bytes:
        """As it goes through the pipe."""
        return json.dumps(asdict(self)).encode() + b"\n"


def read_worker_config(line: bytes) -> WorkerConfig:
    """What `line` made a line of."""
    given = json.loads(line)
    policy, tls = given.pop("policy"), given.pop("tls")
    containing = tuple((part, ttl_s) for part, ttl_s in policy.pop("containing"))
    return WorkerConfig(
        policy=Policy(containing=containing, **policy), tls=None if tls is None else Tls(**tls), **given
    )
