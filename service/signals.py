"""The signals that end the service."""

import os
import signal


class EndSignals:
    """SIGTERM, SIGINT and SIGHUP, in the order in which they arrive.

    They come through a pipe that Python's own handler writes to, in any thread. A lock in its place would hang: an
    Event's lock isn't reentrant, and a wait for a queue goes on when another thread took the signal, or when the signal
    came just before the wait.
    """

    def __init__(self) -> None:
        self._arrived, arriving = os.pipe()
        os.set_blocking(arriving, False)
        signal.set_wakeup_fd(arriving, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def get(self) -> str:
        """Wait for the next signal; its name."""
        return signal.Signals(os.read(self._arrived, 1)[0]).name
