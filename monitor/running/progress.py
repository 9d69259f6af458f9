"""A progress bar for long work: on a terminal's standard error, and only once the work has taken a second."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

SHOWN_AFTER_S = 1.0


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with `(done, total)`; shows nothing where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(label, total=None)
    began = monotonic()

    def show(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if console.is_terminal and not bar.live.is_started and monotonic() - began > SHOWN_AFTER_S:
            bar.start()

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()
