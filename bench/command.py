"""What the measurements' commands share: an error is one line on standard error, and the exit code 1."""

import sys
from collections.abc import Callable, Sequence
from functools import wraps

import psycopg

from keystore.errors import KeystoreError

Main = Callable[[Sequence[str] | None], int]


def errors_in_one_line(main: Main) -> Callable[..., int]:
    """A command that tells what can't be used, and which file, instead of a traceback."""

    @wraps(main)
    def command(args: Sequence[str] | None = None) -> int:
        try:
            return main(args)
        except KeystoreError as error:
            print(f"error: {error}", file=sys.stderr)
        except psycopg.Error as error:
            print(f"error: the server can't be used: {type(error).__name__}; look at --url", file=sys.stderr)
        except OSError as error:
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1

    return command
