"""The one way in which measurements are commands: `--url`, `--json FILE`, errors in one line, and the exit code.

Each `python -m bench.X` builds a `Command`, adds its own options, and runs a function that measures.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec
import psycopg
from msgspec import Struct

from keystore.errors import KeystoreError
from rig.postgres_server import own_postgres

SERVER = "a Postgres server's address, for a role that may create databases"
OWN_SERVER = f"{SERVER}; without it a server of its own is started"

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

Main = Callable[[Sequence[str] | None], int]
T = TypeVar("T")
Number = TypeVar("Number", int, float)


class Outcome(Struct, frozen=True):
    """A finished measurement: the text for the terminal, the figures for `--json`, and the verdict."""

    text: str
    figures: object
    met: bool = True


class MissingProgramError(KeystoreError):
    """A program that the measurement runs on is not installed; the exit code is 2."""


class HelpFormatter(argparse.HelpFormatter):
    """Help whose paragraphs fit the terminal, between words; indented lines are commands and stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled: list[str] = []
        for is_command, lines in groupby(text.strip().splitlines(), lambda line: line.startswith("  ")):
            if is_command:
                filled += lines
            else:
                for paragraph in "\n".join(lines).split("\n\n"):
                    filled.append(textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False))
                    filled.append("")
                filled.pop()
        return "\n".join(indent + line for line in filled)


class Command(argparse.ArgumentParser):
    """A measurement's command line. `url` is the help of its option `--url`; without a text it has none."""

    def __init__(self, program: str, doc: str | None, epilog: str = "", *, url: str = "", url_required: bool = False):
        super().__init__(f"python -m {program}", description=doc, epilog=epilog, formatter_class=HelpFormatter)
        if url:
            self.add_argument("--url", type=postgres_address, required=url_required, help=url)
        self.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")

    def add_number(self, option: str, default: float, what: str, least: float = 1, most: float | None = None) -> None:
        """Add an option for a number of the default's type, from `least` to `most`; its help ends with the default."""
        number = in_range(type(default), least, most)
        self.add_argument(option, type=number, default=default, help=f"{what} ({default:,g})")

    def run(self, args: Sequence[str] | None, measure: Callable[[argparse.Namespace], Outcome]) -> int:
        """Measure and print; return 1 if a limit is missed or an error ended the measurement."""
        options = self.parse_args(args)
        return errors_in_one_line(lambda _: _run(options, measure))()


def _run(options: argparse.Namespace, measure: Callable[[argparse.Namespace], Outcome]) -> int:
    if options.json:
        options.json.touch()  # An unwritable file is found before the work, not after it.
    outcome = measure(options)
    if options.json and outcome.figures is not None:
        write_json(options.json, outcome.figures)
    if outcome.text:
        print(outcome.text)
    return 0 if outcome.met else 1


def errors_in_one_line(main: Main) -> Callable[..., int]:
    """Make a command report an error as one line on standard error instead of a traceback."""

    @wraps(main)
    def command(args: Sequence[str] | None = None) -> int:
        try:
            return main(args)
        except KeystoreError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2 if isinstance(error, MissingProgramError) else 1
        except psycopg.Error as error:
            print(f"error: the server can't be used: {type(error).__name__}; look at --url", file=sys.stderr)
        except OSError as error:
            print(f"error: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
        except KeyboardInterrupt:
            print("error: interrupted; a measurement that had not finished gives no figures", file=sys.stderr)
            return INTERRUPTED
        return 1

    return command


def postgres_address(text: str) -> str:
    """A PostgreSQL address, for argparse."""
    if not text.startswith(("postgresql://", "postgres://")):
        raise argparse.ArgumentTypeError(
            "the address is a PostgreSQL one: postgresql://user:password@host:5432/database"
        )
    return text


def in_range(kind: type[Number], least: float, most: float | None = None) -> Callable[[str], Number]:
    """A type for argparse: a number from `least` to `most`, both included."""

    def parse(text: str) -> Number:
        number = kind(text)
        if not (least <= number and (most is None or number <= most)):
            limits = f"{least:,} or more" if most is None else f"from {least:,} to {most:,}"
            raise argparse.ArgumentTypeError(f"it is {limits}")
        return number

    parse.__name__ = kind.__name__  # argparse names the type in its message about text that is no number.
    return parse


def server_at(url: str | None) -> AbstractContextManager[str]:
    """The address itself or, without one, the address of a server that runs for the block. Raises KeystoreError."""
    return nullcontext(url) if url else own_postgres()


def with_verdict(figures: object, met: bool) -> dict[str, object]:
    """Figures as a JSON object, with their verdict as the field `met`."""
    return {**msgspec.to_builtins(figures), "met": met}


def write_json(file: Path, figures: object) -> None:
    """Write figures that `read_json` reads back."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def read_json(file: Path, kind: type[T], writer: str) -> T:
    """The figures in a file that this measurement wrote. Raises KeystoreError, also for a file of another shape."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise KeystoreError(f"{file} is not what {writer} writes: {error}") from error
