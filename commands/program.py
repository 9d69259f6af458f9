"""The program: its commands, and one line on standard error for each way to fail."""

import io
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from commands import companies, recovery, reports, roles, tokens, transfer, upkeep
from commands.examples import add_examples
from commands.opening import (
    DatabaseFile,
    DatabaseUrl,
    choose_database,
    chosen_settings,
    no_database_chosen,
    with_database_options,
)
from commands.output import discard_output, show_error
from keystore.errors import KeystoreError
from keystore.invocation import INSTALLED, command, program_name
from service.lifetime import Wire, serve_until_signal

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after SIGINT and SIGTERM."""

WIDEST_HELP = 120
"""The width beyond which lines of help would be hard to read."""


def _show_version(asked: bool) -> None:
    if asked:
        print(f"signal-keystore {version('signal-keystore')}")
        raise typer.Exit


app = typer.Typer(
    help="Stores the Signal-protocol keys of WhatsApp bots, and monitors them. Without a command it runs `serve`.",
    add_completion=program_name() == INSTALLED,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST_HELP},
)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    database: DatabaseUrl = None,
    database_file: DatabaseFile = None,
    _version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Run `serve` if no command is given."""
    choose_database(database, database_file)
    if context.invoked_subcommand is None:
        serve(context)


def serve(context: typer.Context) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    It runs the HTTP API, the sweeper, the watch and, if its token is set, the Telegram bot.
    """
    wire: Wire = context.obj
    serve_until_signal(wire, chosen_settings)


COMMANDS: dict[str, Callable[..., None]] = {
    "serve": serve,
    "migrate": upkeep.migrate_tables,
    "check": reports.check,
    "types": reports.types,
    "growth": reports.growth,
    "perf": reports.perf,
    "backfill": upkeep.backfill,
    "sweep": upkeep.sweep,
    "import": transfer.import_state,
    "export": transfer.export_state,
    "verify": transfer.verify,
    "trash": recovery.trash,
    "restore": recovery.restore,
    "rolled-back": recovery.rolled_back,
    "purge": recovery.purge,
    "repair": upkeep.repair,
    "rotate": upkeep.rotate,
    "seed": upkeep.seed,
    "doctor": reports.doctor,
}
TOKEN_COMMANDS: dict[str, Callable[..., None]] = {
    "create": tokens.create,
    "list": tokens.list_all,
    "revoke": tokens.revoke,
}

ROLE_COMMANDS: dict[str, Callable[..., None]] = {
    "create": roles.create,
    "list": roles.list_all,
    "revoke": roles.revoke,
    "print": roles.show,
}

COMPANY_COMMANDS: dict[str, Callable[..., None]] = {"delete": companies.delete}


def _add_commands(group: typer.Typer, commands: Mapping[str, Callable[..., None]]) -> None:
    for name, function in commands.items():
        group.command(name)(with_database_options(function))


def _add_group(name: str, help_text: str, commands: Mapping[str, Callable[..., None]]) -> None:
    """Add commands with a name of two words; the first word alone shows their help."""
    group = typer.Typer(help=help_text, rich_markup_mode=None, invoke_without_command=True, callback=_show_help)
    _add_commands(group, commands)
    app.add_typer(group, name=name)


def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


_add_commands(app, COMMANDS)
_add_group("token", "Create, list and revoke the API's tokens.", TOKEN_COMMANDS)
_add_group("role", "Manage logins of bots, and roles, in PostgreSQL.", ROLE_COMMANDS)
_add_group("company", "Delete what is stored for a company.", COMPANY_COMMANDS)


def run(wire: Wire, args: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; return its exit code. `wire` puts the service together, for `serve`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Characters that a terminal can't show become question marks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # It raises SystemExit, so cleanup code runs.
    add_examples(app)
    as_json = "--json" in (sys.argv[1:] if args is None else args)
    try:
        with no_database_chosen():
            code = int(app(args, prog_name=program_name(), obj=wire, standalone_mode=False) or 0)
        if code == INTERRUPTED:  # Typer's exit code after Ctrl-C.
            return show_error("interrupted; completed work stays, and nothing is half-done", code, as_json=as_json)
        return code
    except typer.TyperException as error:
        message = f"{error.format_message().rstrip('.')}. See `{command('--help')}`"
        return show_error(message, error.exit_code, as_json=as_json)
    except typer.Abort:
        return show_error("interrupted at a question; nothing was changed", INTERRUPTED, as_json=as_json)
    except KeystoreError as error:
        return show_error(str(error), as_json=as_json)
    except BrokenPipeError:
        # Nobody reads the output any more. On a closed standard error, Python's shutdown can't report that again.
        sys.stderr.close()
        return 1
    except OSError as error:
        message = f"{error.filename or 'operating system'}: {error.strerror or error}"
        return show_error(message, as_json=as_json)
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            discard_output()
