"""The output of a command: a report on standard output, as text or JSON, or one line of failure on standard error.

Here are also the options that several commands take.
"""

import json
import os
import shutil
import sys
import textwrap
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from keystore.errors import KeystoreError
from monitor.reports import report_json
from monitor.reports.layout import paragraphs

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; an error too, on standard error.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; report what would change.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
"""Exit codes of `check --exit-code`: those of a Nagios plugin."""

PARTIAL = 3
"""Exit code of an import that left something out, or that would."""

PIPED_WIDTH = 10_000
"""The width of output that goes to no terminal, so that nothing is wrapped."""


class UsageError(typer.TyperException):
    """The command line can't be right on any database."""

    exit_code = 2


def ask(question: str) -> None:
    """Ask the operator. Ends the command unless the answer is yes. Raises UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked here; give --yes")
    if not typer.confirm(question, err=True):
        show_note("nothing was changed")
        raise typer.Exit(1)


def show_report(text: RenderableType, report: Any, as_json: bool) -> None:
    """Print the text, or the report as JSON. Raises KeystoreError if standard output can't be written."""
    try:
        print(report_json.as_json(report) if as_json else _rendered(text), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        problem = f"standard output can't be written: {error.strerror}; the command has done its work"
        raise KeystoreError(problem) from error


def show_note(message: str) -> None:
    """Print a line for a person on standard error, beside a report on standard output."""
    print(_between_words(message), file=sys.stderr)


def show_error(message: str, code: int = 1, *, as_json: bool = False) -> int:
    """Print the message on one line, which a terminal shows between words, or as JSON. Return the exit code."""
    message = " ".join(message.split())
    if as_json:
        print(json.dumps({"error": message, "exit_code": code}, ensure_ascii=False), file=sys.stderr)
        return code
    print(_between_words(f"error: {message}"), file=sys.stderr)
    return code


def discard_output() -> None:
    """Drop the output that can't be written, so that Python doesn't try it again when the process ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _between_words(line: str) -> str:
    """The line as it is or, on a terminal, as lines of its width."""
    if not sys.stderr.isatty():
        return line
    width = os.get_terminal_size(sys.stderr.fileno()).columns or PIPED_WIDTH
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def _rendered(text: RenderableType) -> str:
    """The text in lines of the terminal's width."""
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns  # COLUMNS, or else the width of the terminal.
    console = Console(markup=False, highlight=False, width=width)
    with console.capture() as captured:
        shown = paragraphs(*text.splitlines()) if isinstance(text, str) else text
        console.print(shown, overflow="ignore", crop=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
