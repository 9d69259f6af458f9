"""The program: which commands there are, and one line on standard error for each way to fail."""

import io
import signal
import sys
from collections.abc import Sequence

import typer

from commands import reports, tokens, transfer, upkeep
from commands.output import failed
from keystore.errors import KeystoreError
from service.lifetime import Wire, serve_until_signal

app = typer.Typer(
    help="Keeps WhatsApp bots' Signal-protocol keys, and watches over them. Without a command: serve.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Serves when no command is given."""
    if context.invoked_subcommand is None:
        serve(context)


@app.command()
def serve(context: typer.Context) -> None:
    """Run the service until SIGTERM or Ctrl-C: HTTP API, sweeper, watch and, with a token, the Telegram bot."""
    wire: Wire = context.obj
    serve_until_signal(wire)


app.command()(upkeep.migrate)
app.command()(reports.check)
app.command()(reports.types)
app.command()(reports.growth)
app.command()(reports.perf)
app.command()(upkeep.backfill)
app.command()(upkeep.sweep)
app.command("import")(transfer.import_state)
app.command("export")(transfer.export_state)
app.command()(upkeep.repair)
app.command()(upkeep.seed)
app.command()(reports.doctor)

token_app = typer.Typer(help="Make, list and revoke the API's tokens.", rich_markup_mode=None)
app.add_typer(token_app, name="token")
token_app.command("create")(tokens.create)
token_app.command("list")(tokens.list_all)
token_app.command("revoke")(tokens.revoke)


def run(wire: Wire, args: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; its exit code. `wire` puts the service together, for `serve`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal that can't show a character shows a question mark.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # As an exception: what must be tidied up is.
    try:
        code = int(app(args, obj=wire, standalone_mode=False) or 0)
        return failed("interrupted; what was done stays done, and nothing is half-done", code) if code == 130 else code
    except typer.TyperException as error:
        return failed(f"{error.format_message()} See python run.py --help", error.exit_code)
    except KeystoreError as error:
        return failed(str(error))
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        return failed(f"{error.filename or 'the system'}: {error.strerror or error}")
