"""The config of a worker, sent as one line on its standard input, so that a process list shows no secret.

The pipe stays open afterwards. It closes when run.py wants the worker to stop, or when run.py itself has ended.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from keystore.records import Quota

BACKLOG = 1024
"""Length of the queue of new connections; they wait there while a worker is restarted too."""


@dataclass(frozen=True)
class WorkerConfig:
    """All that a worker needs; it reads no settings itself. The lifetimes of keys stand in the database.

    `requests_per_s` limits one token in one worker; None means no limit. `tls_cert` and `tls_key` are the paths of two
    PEM files, both or neither. `program` is the command that started the service. `socket` is the file descriptor of a
    listening socket that the worker inherits. `number` is the worker's own: a worker that replaces it gets the same.
    `name`, `address` (HOST:PORT), `started_at` (a Unix time) and `workers` describe the service, and `zone` is the
    time zone of the page's readers. `admin_token_file` is the file with an embedded database's first admin token.
    `secret_keys` is the text of KEYSTORE_SECRET_KEYS. `metrics_folder` is the folder in which several workers keep
    their counts; the last worker to end removes it.
    """

    url: str = field(repr=False)
    guard: bool
    quota: Quota
    connections: int
    log: Literal["text", "json"]
    sweep_every_s: float
    load_budget_ms: float
    requests_per_s: float | None
    tls_cert: str | None
    tls_key: str | None
    over_tls: bool
    version: str
    program: str
    name: str = ""
    zone: str = "UTC"
    address: str = ""
    started_at: float = 0.0
    workers: int = 1
    admin_token_file: str | None = None
    secret_keys: str = field(default="", repr=False)
    socket: int = -1
    number: int = 0
    metrics_folder: str | None = None

    def line(self) -> bytes:
        """Return the line that is sent through the pipe."""
        return json.dumps(asdict(self)).encode() + b"\n"


def read_worker_config(line: bytes) -> WorkerConfig:
    """Return the config that was sent as a line."""
    fields = json.loads(line)
    return WorkerConfig(quota=Quota(**fields.pop("quota")), **fields)
