"""Signal Keystore's one entrance: reads the settings, wires the parts, offers the commands.

`python run.py` serves; `python run.py --help` lists the rest.
"""

import io
import os
import signal
import sys
import threading
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console, RenderableType

from api.access.tokens import create_token, first_admin_token, listed_tokens, revoke_token, token_line
from api.workers.config import Orders, Tls
from api.workers.supervisor import Address, Workers, listen, require_usable
from keystore.errors import InvalidInput, KeystoreError
from keystore.migrate import WATCH_TABLES, schema_of
from keystore.migrate import attach as attach_watch
from keystore.migrate import migrate as apply_migrations
from keystore.opening import open_link, open_store
from keystore.sqlite.store import SqliteStore
from keystore.store import Store
from keystore.ttl import parse_duration, parse_policy
from monitor import sweeper
from monitor.growth import growth_report
from monitor.reports import check as health
from monitor.reports import doctor as doctoring
from monitor.reports import perf
from monitor.reports import terminal as render
from monitor.reports.key_types import types_report
from monitor.running import logs
from monitor.running.progress import progress_bar
from monitor.telegram.access import TelegramAccess
from monitor.transfer.archive import export_archive, import_archive
from monitor.transfer.folder import export_folder, import_folder
from monitor.upkeep.backfill import backfill as backfill_keys
from monitor.upkeep.demo import seed as seed_dataset
from monitor.upkeep.repair import repair as repair_rows
from service.background import Service
from settings import Settings, SettingsError, environment_of_workers, read_settings

STOP_WITHIN_S = 4.0
"""For what is at work to come to a good place to stop; the whole process is to be gone within 5 seconds."""

GONE_WITHIN_S = 4.6
"""For the store's connections to be closed too; after it the process ends as it is."""

PIPED_WIDTH = 200
"""For output that no terminal wraps: a line for each thing said."""

app = typer.Typer(
    help="Keeps WhatsApp bots' Signal-protocol keys, and watches over them. Without a command: serve.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
log = structlog.get_logger()

AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


token_app = typer.Typer(help="Make, list and revoke the API's tokens.", rich_markup_mode=None)
app.add_typer(token_app, name="token")


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Serves when no command is given."""
    if context.invoked_subcommand is None:
        serve()


@app.command()
def serve() -> None:
    """Run the service until SIGTERM or Ctrl-C: HTTP API, sweeper, watch and, with a token, the Telegram bot."""
    ended_by = EndSignals()
    settings = read_settings()
    settings.require_closed_http()
    orders = _orders(settings)
    if settings.http is not None and orders.tls is not None:
        require_usable(orders.tls)
    logs.configure(settings.log, verbose=True)
    listening = None if settings.http is None else listen(Address(settings.http.host, settings.http.port))
    store = _open(settings)
    workers = None
    if listening is not None:
        _first_admin_token(store)
        workers = Workers(listening, orders, settings.http_workers, environment_of_workers())
    telegram = _telegram(settings)
    service = Service(
        store,
        sweep_every_s=settings.sweep_every_s,
        load_budget_ms=settings.load_budget_ms,
        memory_alert_percent=settings.memory_alert_percent,
        zone=settings.timezone,
        summary_at=settings.summary_at,
        version=version("signal-keystore"),
        telegram=telegram,
    )
    if workers is not None:
        workers.start()
    service.start()
    log.info(
        "serving",
        database=store.database,
        http=None if workers is None else workers.url,
        sweep_every_s=settings.sweep_every_s,
        guard=settings.guard,
    )
    if telegram is None:
        log.info("telegram_not_set_up", hint="TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID; alerts go to this log alone")
    elif not telegram.chats:
        log.warning("telegram_answers_nobody", hint="TELEGRAM_CHAT_ID is empty: no chat is answered or alerted")
    log.info("stopping", signal=ended_by.get())
    last = threading.Timer(GONE_WITHIN_S, _end_now, [store.database])
    last.daemon = True
    last.start()
    stop_at = monotonic() + STOP_WITHIN_S
    if workers is not None:
        workers.tell_to_end()
    ended = service.stop(STOP_WITHIN_S)
    if workers is not None:
        workers.stop(max(0.0, stop_at - monotonic()))
    if ended:
        store.close()
        log.info("stopped")
    else:
        _end_now(store.database)


def _first_admin_token(store: Store) -> None:
    if isinstance(store, SqliteStore):
        file = first_admin_token(store, store.link.path)
        if file is not None:
            log.info("admin_token_made", file=str(file), hint="send it as Authorization: Bearer")


def _orders(settings: Settings) -> Orders:
    tls = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = Tls(str(settings.tls_cert.absolute()), str(settings.tls_key.absolute()))
    return Orders(
        url=settings.url.get_secret_value(),
        policy=settings.ttl,
        guard=settings.guard,
        connections=settings.connections,
        log=settings.log,
        sweep_every_s=settings.sweep_every_s,
        load_budget_ms=settings.load_budget_ms,
        requests_per_s=settings.http_rate,
        tls=tls,
        over_tls=tls is not None or settings.behind_proxy,
        version=version("signal-keystore"),
    )


class EndSignals:
    """The signals that ask us to end, in the order in which they arrive.

    They come through a pipe that the system's own handler writes to, whichever thread it runs in. A lock in its place
    hangs: an Event's isn't reentrant, and a wait for a queue's goes on when another thread took the signal, or when it
    came just before the wait.
    """

    def __init__(self) -> None:
        self._arrived, arriving = os.pipe()
        os.set_blocking(arriving, False)
        signal.set_wakeup_fd(arriving, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def get(self) -> str:
        """Waits for the next one; its name."""
        return signal.Signals(os.read(self._arrived, 1)[0]).name


def _end_now(database: str) -> NoReturn:
    """Ends the process during a batch: its transaction ends with it, and leaves nothing behind."""
    log.warning("stopped_during_a_batch", database=database)
    sys.stderr.flush()
    os._exit(0)


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
        if dry_run:
            pending = schema_of(link).pending
            applied = [name for name in pending if not attach or name in WATCH_TABLES]
        else:
            applied = attach_watch(link) if attach else apply_migrations(link)
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
def growth(
    ttl: Annotated[
        str | None,
        typer.Option(metavar="TYPE=LIFE,…", help="What if: forecast under these lifetimes too (pre-key=14d)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how fast keys come, how many there will be, and how wrong earlier forecasts were."""
    settings = _settings()
    what_if = None if ttl is None else parse_policy(ttl, settings.ttl)
    with _open(settings) as store:
        report = growth_report(store, what_if)
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
            report = sweeper.SweepReport(store.database, sum(by_type.values()), by_type, 0.0, dry_run=True)
        else:
            report = sweeper.sweep(store, progress=told)
    _show(render.sweep(report), report, as_json)


@app.command("import")
def import_command(
    path: Annotated[Path, typer.Argument(help="A useMultiFileAuthState folder, or an archive that `export` wrote.")],
    company: Annotated[
        str | None, typer.Option(help="Whose state it is; an archive says so itself, for a folder it must be given.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let it change what the company has. Stop the bot first.")
    ] = False,
    delete_source: Annotated[
        bool, typer.Option("--delete-source", help="Delete each file of a folder once it was read back and compared.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take a company's state in, all of it or nothing, and read every key back. Unreadable files are listed."""
    with _open(_settings()) as store, progress_bar("import") as told:
        if path.is_dir():
            if company is None:
                raise InvalidInput(f"{path} doesn't say whose state it is; give --company")
            report = import_folder(
                store, company, path, replace=replace, dry_run=dry_run, delete_source=delete_source, progress=told
            )
        elif delete_source:
            raise InvalidInput(f"{path}: --delete-source is for a folder; an archive is a copy to keep")
        else:
            report = import_archive(store, company, path, replace=replace, dry_run=dry_run, progress=told)
    _show(render.transfer(report), report, as_json)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="NAME.jsonl for an archive, any other name for a folder.")],
    company: Annotated[str | None, typer.Option(help="Whose state; may be left out where there is only one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export of that name.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write a company's state: an archive keeps all values and times, a folder is for useMultiFileAuthState."""
    write = export_archive if path.suffix == ".jsonl" else export_folder
    with _open(_settings()) as store, progress_bar("export") as told:
        report = write(store, company or _only_company(store), path, force=force, dry_run=dry_run, progress=told)
    _show(render.transfer(report), report, as_json)


@app.command()
def repair(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Move rows of a mis-split type (`lid` / `mapping-123`) to the type they belong to, where nothing newer stands."""
    with _open(_settings()) as store, progress_bar("repair") as told:
        report = repair_rows(store, dry_run=dry_run, progress=told)
    _show(render.repair(report), report, as_json)


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


@token_app.command("create")
def token_create(
    company: Annotated[str | None, typer.Option(help="The one company that it reaches.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It reaches everything.")] = False,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it is good (90d); else for ever.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token, and show it: this once."""
    if admin == (company is not None):
        raise InvalidInput("token create: give either --company X or --admin")
    expires_in_s = None if expires is None else parse_duration(expires, "--expires")
    with _open(_settings()) as store:
        made = create_token(store, company, expires_in_s)
    told = {"token": made.token, "token_id": made.token_id, "company": made.company, "expires_at": made.expires_at}
    _show(made.token, told, as_json)


@token_app.command("list")
def token_list(as_json: AsJson = False) -> None:
    """List every token: whose it is, and whether it is in force. The tokens themselves are nowhere kept."""
    with _open(_settings()) as store:
        listed = listed_tokens(store)
    _show("\n".join(map(token_line, listed)) or "there are no tokens", {"tokens": listed}, as_json)


@token_app.command("revoke")
def token_revoke(token_id: Annotated[str, typer.Argument(help="Its id, as `token list` shows it.")]) -> None:
    """End a token: within 5 seconds nobody gets in with it."""
    with _open(_settings()) as store:
        revoke_token(store, token_id)
    _show(f"token {token_id} is revoked", None, False)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look at settings, database, schema, clock, permissions and Telegram; say what to fix. Exits 1 if one failed."""
    try:
        settings = _settings()
    except SettingsError as error:
        report = doctoring.DoctorReport((doctoring.Check("settings", "failed", str(error)),))
    else:
        report = doctoring.examine(
            partial(_open, settings), settings.ttl, guard=settings.guard, telegram=_telegram(settings)
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


def _telegram(settings: Settings) -> TelegramAccess | None:
    if settings.telegram_token is None:
        return None
    return TelegramAccess(
        settings.telegram_token.get_secret_value(), settings.telegram_chats, settings.telegram_api_url
    )


def _only_company(store: Store) -> str:
    companies = store.companies()
    if len(companies) != 1:
        raise InvalidInput(f"{store.database} has {len(companies)} companies; say which with --company")
    return companies[0]


def _show(text: RenderableType, report: Any, as_json: bool) -> None:
    if as_json:
        print(render.as_json(report))
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        console = Console(markup=False, highlight=False, soft_wrap=True, width=width)
        with console.capture() as captured:
            console.print(text)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def run() -> int:
    """The whole program; returns its exit code. Whatever goes wrong is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal that can't show a character shows a question mark.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # As an exception: what must be tidied up is.
    try:
        code = int(app(standalone_mode=False) or 0)
        return _failed("interrupted; what was done stays done, and nothing is half-done", code) if code == 130 else code
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
