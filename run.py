"""Signal Keystore's one entrance: reads the settings, wires the parts, offers the commands.

`python run.py` serves; `python run.py --help` lists the rest.
"""

import signal
import sys
import threading
from functools import partial
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console, RenderableType

from bench.dataset import seed as seed_dataset
from keystore.errors import KeystoreError
from keystore.migrate import attach as attach_watch
from keystore.migrate import migrate as apply_migrations
from keystore.migrate import schema_of
from keystore.opening import open_link, open_store
from keystore.store import Store
from monitor import doctor as doctoring
from monitor import health, logs, perf, render, sweeper
from monitor.backfill import backfill as backfill_keys
from monitor.growth import growth_report
from monitor.loop import Loop
from monitor.progress import progress_bar
from monitor.types import types_report
from settings import Settings, SettingsError, read_settings

STOP_WITHIN_S = 4.0
"""For the loop's job to come to a good place to stop; the whole process is to be gone within 5 seconds."""

app = typer.Typer(
    help="Keeps WhatsApp bots' Signal-protocol keys, and watches over them. Without a command: serve.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
log = structlog.get_logger()

AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Serves when no command is given."""
    if context.invoked_subcommand is None:
        serve()


@app.command()
def serve() -> None:
    """Run the service until SIGTERM or Ctrl-C: sweeps at start and then every KEYSTORE_SWEEP_EVERY."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = read_settings()
    logs.configure(settings.log, verbose=True)
    store = _open(settings)
    loop = Loop()
    loop.every(settings.sweep_every_s, "sweep", partial(sweeper.sweep_and_log, store, loop.stopping))
    loop.start()
    log.info("serving", database=store.database, sweep_every_s=settings.sweep_every_s, guard=settings.guard)
    if settings.telegram_token is not None:
        log.warning("telegram_not_served", reason="this version has no Telegram bot yet; TELEGRAM_* have no effect")
    stop.wait()
    log.info("stopping")
    if loop.stop(STOP_WITHIN_S):
        store.close()
        log.info("stopped")
    else:
        # Its statement's transaction ends with this process, and leaves nothing behind.
        log.warning("stopped_during_a_batch", database=store.database)


@app.command()
def migrate(
    attach: Annotated[
        bool, typer.Option("--attach", help="Add only our own tables, beside a bot that goes on writing jsonb.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's tables to this version. Stop the bots of a diary-shaped database first, or use --attach."""
    settings = _settings()
    link = open_link(settings.url.get_secret_value())
    try:
        applied = list(schema_of(link).pending) if dry_run else attach_watch(link) if attach else apply_migrations(link)
    finally:
        link.close()
    verb = "to apply" if dry_run else "applied"
    text = "\n".join(f"{verb}: {name}" for name in applied) or "nothing to apply"
    _show(
        text,
        {"database": link.name, "applied": [] if dry_run else applied, "pending": applied if dry_run else []},
        as_json,
    )


@app.command()
def check(as_json: AsJson = False) -> None:
    """Count the keys, judge the state of the table and the sweeper, and say what to do."""
    settings = _settings()
    with _open(settings) as store:
        report = health.check_report(store, settings.sweep_every_s)
    _show(render.check(report), report, as_json)


@app.command()
def types(as_json: AsJson = False) -> None:
    """Count the keys by type, with and without an expiry."""
    with _open(_settings()) as store:
        report = types_report(store)
    _show(render.types(report), report, as_json)


@app.command()
def growth(as_json: AsJson = False) -> None:
    """Say how fast keys come, and what the diary's arithmetic makes of it."""
    with _open(_settings()) as store:
        report = growth_report(store)
    _show(render.growth(report), report, as_json)


@app.command("perf")
def perf_command(
    company: Annotated[
        str | None, typer.Option(help="Whose state to load; default: whoever has the most keys.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often to time each.")] = perf.ROUNDS,
    as_json: AsJson = False,
) -> None:
    """Time load, get and burst on the live database, against the budget. What it writes, it removes."""
    settings = _settings()
    with _open(settings) as store, progress_bar("timing") as told:
        report = perf.perf_report(store, settings.load_budget_ms, company, rounds=rounds, progress=told)
    _show(render.perf(report), report, as_json)


@app.command()
def backfill(
    enforce: Annotated[
        bool, typer.Option("--enforce", help="Then make the database refuse a key without an expiry.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give every key without an expiry one, counted from now. Stop it at any time; the next run goes on."""
    with _open(_settings()) as store, progress_bar("backfill") as told:
        report = backfill_keys(store, enforce=enforce, dry_run=dry_run, progress=told)
    _show(render.backfill(report), report, as_json)


@app.command()
def sweep(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete expired keys now, guarded ones apart."""
    with _open(_settings()) as store, progress_bar("sweep") as told:
        if dry_run:
            by_type = sweeper.due_now(store.census())
            report = sweeper.SweepReport(store.database, sum(by_type.values()), by_type, 0.0)
        else:
            report = sweeper.sweep(store, progress=told)
    _show(render.sweep(report), report, as_json)


@app.command()
def seed(
    company: Annotated[str, typer.Option(help="The demo company; it must not have keys yet.")] = "demo",
    as_json: AsJson = False,
) -> None:
    """Write the diary's data set: 665 keys, 609 of them without an expiry, for a company of its own."""
    with _open(_settings()) as store:
        report = seed_dataset(store, company)
    text = (
        f"{report.keys} keys for company {report.company} in {report.database}, {report.without_expiry} without expiry"
    )
    _show(text, report, as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look at settings, database, schema, clock, permissions and Telegram; say what to fix. Exits 1 if one failed."""
    try:
        settings = _settings()
    except SettingsError as error:
        report = doctoring.DoctorReport((doctoring.Check("settings", "failed", str(error)),))
    else:
        token = settings.telegram_token.get_secret_value() if settings.telegram_token else None
        report = doctoring.examine(
            partial(_open, settings), settings.ttl, guard=settings.guard, token=token, chats=settings.telegram_chats
        )
    _show(render.doctor(report), report, as_json)
    if not report.healthy:
        raise typer.Exit(1)


def _settings() -> Settings:
    settings = read_settings()
    logs.configure(settings.log, verbose=False)
    return settings


def _open(settings: Settings) -> Store:
    return open_store(
        settings.url.get_secret_value(),
        policy=settings.ttl,
        guard=settings.guard,
        max_connections=settings.connections,
    )


def _show(text: RenderableType, report: Any, as_json: bool) -> None:
    if as_json:
        print(render.as_json(report))
    else:
        Console(markup=False, highlight=False, soft_wrap=True).print(text)


def run() -> int:
    """The whole program; returns its exit code. Whatever goes wrong is one line on standard error."""
    try:
        return int(app(standalone_mode=False) or 0)
    except typer.TyperException as error:
        return _failed(f"{error.format_message()} See python run.py --help", error.exit_code)
    except KeystoreError as error:
        return _failed(str(error))
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        return _failed(f"{error.filename or 'the system'}: {error.strerror or error}")


def _failed(told: str, code: int = 1) -> int:
    print(f"error: {' '.join(told.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run())
