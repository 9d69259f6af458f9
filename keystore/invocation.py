"""The command by which this program was started, for messages that suggest one of its commands."""

from pathlib import Path

CHECKOUT, INSTALLED = "python run.py", "signal-keystore"

_program = CHECKOUT if (Path(__file__).parent.parent / "run.py").is_file() else INSTALLED


def set_program(program: str) -> None:
    """Set how the program was started; without it, a checkout's messages name run.py, and others the command."""
    global _program
    _program = program


def program_name() -> str:
    """Return how the program was started: `python run.py` or `signal-keystore`."""
    return _program


def command(arguments: str) -> str:
    """Return a command of this program as a user types it: `python run.py migrate`."""
    return f"{_program} {arguments}"


def as_started(text: str) -> str:
    """Return a fixed text in which each command between backquotes is given as the program was started."""
    return text.replace(f"`{CHECKOUT} ", f"`{_program} ")
