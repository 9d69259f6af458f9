"""A process that works on a store, `python -m tests.conformance.worker_process`, and its handle for a test.

The process reads its job as one JSON line, opens the store, prints `ready`, and begins when it reads `go`. Then it
prints one JSON value a line for the work done so far. A test may kill it at any moment and still knows which writes
were acknowledged.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from keystore import LeaseLost, Store, open_store
from rig.paths import PROJECT

END_TIMEOUT_S = 120.0

Job = dict[str, Any]


def write_one_by_one(store: Store, job: Job) -> Iterator[object]:
    """Write `count` keys, each in a set of its own: sessions unless the job names another `key_type`."""
    for n in range(job["count"]):
        store.set(job["company"], {job.get("key_type", "session"): {f"{job['prefix']} {n}": b"x" * 300}})
    yield job["count"]


def write_generations(store: Store, job: Job) -> Iterator[object]:
    """Write generations until killed; each is one set of creds and keys of three types."""
    generation = job["first"]
    while True:
        store.set("bot", generation_keys(generation, job["keys"]), creds=b"%d" % generation)
        yield generation
        generation += 1


def sweep_until_nothing_is_due(store: Store, job: Job) -> Iterator[object]:
    """Sweep company by company under its own lease, as if it were the only sweeper; yields the number deleted."""
    lease = store.acquire_lease(job["lease"], job["lease"], 600)
    assert lease is not None
    run = store.start_sweep(job["lease"])
    while due := store.due_companies():
        for company in due:
            run = store.sweep_companies(lease, run, [company.company_id], 600)
    yield store.finish_sweep(run, 0.0, None).deleted


def rewrite(store: Store, job: Job) -> Iterator[object]:
    """Rewrite keys, each in a set of its own; yields the number written."""
    for company, key_id in job["names"]:
        store.set(company, {"session": {key_id: b"rewritten"}})
    yield len(job["names"])


def backfill(store: Store, job: Job) -> Iterator[object]:
    """Backfill in batches; yields the total filled after each."""
    filled = 0
    while batch := store.backfill(job["limit"]):
        filled += sum(batch.values())
        yield filled
    yield "done"


def rotate(store: Store, _job: Job) -> Iterator[object]:
    """Rotate every company, and report each that is done; then `done`."""
    for company in store.companies_to_rotate():
        store.rotate_company(company)
        yield company
    yield "done"


def write_under_a_lease(store: Store, job: Job) -> Iterator[object]:
    """Force the company's lease and write under it until it is lost; yields the epoch, then the count of each write."""
    epoch = store.lease_company(job["company"], job["holder"], 600, force=True).epoch
    yield {"epoch": epoch}
    value, wrote = job["holder"].encode(), 0
    with suppress(LeaseLost):
        while True:
            store.set(job["company"], {"session": {"who": value}}, creds=value, epoch=epoch)
            yield {"wrote": (wrote := wrote + 1)}
    yield {"lost": epoch}


JOBS: dict[str, Callable[[Store, Job], Iterator[object]]] = {
    job.__name__: job
    for job in (
        write_one_by_one,
        write_generations,
        sweep_until_nothing_is_due,
        rewrite,
        backfill,
        rotate,
        write_under_a_lease,
    )
}


def generation_keys(generation: int, keys: int) -> dict[str, dict[str, bytes | None]]:
    """The keys of one generation's set, which also deletes the ids of the other parity."""
    here, gone = ("even", "odd") if generation % 2 == 0 else ("odd", "even")
    value = b"%d " % generation + b"x" * 2_000
    return {
        key_type: {f"{here} {n}": value for n in range(keys)} | {f"{gone} {n}": None for n in range(keys)}
        for key_type in ("pre-key", "session", "sender-key")
    }


class Worker:
    """The handle of a worker process."""

    def __init__(
        self, job: Callable[[Store, Job], Iterator[object]], url: str, now: datetime | None, **job_args: Any
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        self._send(json.dumps({"job": job.__name__, "url": url, "now": now and now.isoformat(), **job_args}))

    def wait_until_ready(self) -> None:
        """Wait until its store is open."""
        assert self.line() == "ready"

    def go(self) -> None:
        """Let it begin."""
        self._send("go")

    def line(self) -> Any:
        """Wait for its next line and return the value."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the worker ended early (exit code {self._process.wait(END_TIMEOUT_S)})"
        return json.loads(line)

    def result(self) -> Any:
        """Wait for it to end successfully and return the value of its last line."""
        lines = self._rest()
        assert self._process.returncode == 0, "the worker failed; its traceback is on standard error"
        return lines[-1]

    def kill(self) -> list[Any]:
        """Kill it with SIGKILL and return the values of the lines not read yet."""
        self._process.kill()
        return self._rest()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _rest(self) -> list[Any]:
        # Not communicate(): it reads the pipe directly and would miss the part that readline() has buffered.
        assert self._process.stdout is not None
        overdue = threading.Timer(END_TIMEOUT_S, self._process.kill)
        overdue.start()
        lines = self._process.stdout.readlines()
        overdue.cancel()
        self._process.wait(END_TIMEOUT_S)
        # A killed process may leave a torn last line, which acknowledges nothing.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def close(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        with suppress(ValueError):
            self._process.communicate(timeout=END_TIMEOUT_S)


@contextmanager
def workers(*started: Worker) -> Iterator[None]:
    """Wait until all workers have opened their stores, and end them with the block."""
    try:
        for worker in started:
            worker.wait_until_ready()
        yield
    finally:
        for worker in started:
            worker.close()


def main() -> None:
    """Run the job that standard input names."""
    job: Job = json.loads(sys.stdin.readline())
    now = job["now"] and datetime.fromisoformat(job["now"])
    with open_store(job["url"], clock=(lambda: now) if now else None, secret_keys=job.get("secret_keys", "")) as store:
        _print("ready")
        assert sys.stdin.readline() == "go\n"
        for done in JOBS[job["job"]](store, job):
            _print(done)


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
