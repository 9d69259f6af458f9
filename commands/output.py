"""What a command prints: a report on standard output, as text or JSON; a failure as one line on standard error."""

import sys
from typing import Any

from rich.console import Console, RenderableType

from monitor.reports import terminal as render

PIPED_WIDTH = 200
"""The width of output that goes to no terminal: nothing is wrapped."""


def show_report(text: RenderableType, report: Any, as_json: bool) -> None:
    if as_json:
        print(render.as_json(report))
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        console = Console(markup=False, highlight=False, soft_wrap=True, width=width)
        with console.capture() as captured:
            console.print(text)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def failed(told: str, code: int = 1) -> int:
    print(f"error: {' '.join(told.split())}", file=sys.stderr)
    return code
