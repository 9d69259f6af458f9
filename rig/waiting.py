"""Waiting that ends: for events of other processes and threads."""

import threading
from collections.abc import Callable
from time import monotonic

POLL_S = 0.02


def eventually(condition: Callable[[], bool], expected: str, within_s: float = 20.0) -> None:
    """Wait until `condition()` is true. Raises AssertionError with what was `expected` after `within_s` seconds."""
    give_up_at = monotonic() + within_s
    pause = threading.Event()
    while not condition():
        if monotonic() > give_up_at:
            raise AssertionError(f"not within {within_s} s: {expected}")
        pause.wait(POLL_S)
