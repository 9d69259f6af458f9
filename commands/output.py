"""The output of a command: a report on standard output, as text or JSON, or one line of failure on standard error.

Here are also the options that several commands take.
"""

import shutil
import sys
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from monitor.reports.report_json import as_json

AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]

PIPED_WIDTH = 10_000
"""The width of output that goes to no terminal, so that nothing is wrapped."""


def show_report(text: RenderableType, report: Any, json: bool) -> None:
    """Print the text, or the report as JSON."""
    if json:
        print(as_json(report))
    else:
        width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns  # COLUMNS, or else the width of the terminal.
        console = Console(markup=False, highlight=False, width=width)
        with console.capture() as captured:
            console.print(text, overflow="ignore", crop=False)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_note(message: str) -> None:
    """Print a line for a person on standard error, beside a report on standard output."""
    print(message, file=sys.stderr)


def show_error(message: str, code: int = 1) -> int:
    """Print the message on one line, and return the exit code."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
