"""The output of a command: a report on standard output, as text or JSON, or one line of failure on standard error.

Here are also the options that several commands take.
"""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from monitor.reports.report_json import as_json

AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
"""Exit codes of `check --exit-code`: those of a Nagios plugin."""

PIPED_WIDTH = 200
"""The width of output that goes to no terminal; nothing is wrapped at it."""


class UsageError(typer.TyperException):
    """The command line can't be right on any database."""

    exit_code = 2


def show_report(text: RenderableType, report: Any, json: bool) -> None:
    """Print the text, or the report as JSON."""
    if json:
        print(as_json(report))
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        console = Console(markup=False, highlight=False, soft_wrap=True, width=width)
        with console.capture() as captured:
            console.print(text)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_note(message: str) -> None:
    """Print a line for a person on standard error, beside a report on standard output."""
    print(message, file=sys.stderr)


def show_error(message: str, code: int = 1) -> int:
    """Print the message on one line, and return the exit code."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
