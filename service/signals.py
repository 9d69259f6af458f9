"""The signals that ask the service to end."""

import os
import signal


class EndSignals:
    """The signals that ask us to end, in the order in which they arrive.

    They come through a pipe that the system's own handler writes to, whichever thread it runs in. A lock in its place
    hangs: an Event's isn't reentrant, and a wait for a queue's goes on when another thread took the signal, or when it
    came just before the wait.
    """

    def __init__(self) -> None:
        self._arrived, arriving = os.pipe()
        os.set_blocking(arriving, False)
        signal.set_wakeup_fd(arriving, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def get(self) -> str:
        """Waits for the next one; its name."""
        return signal.Signals(os.read(self._arrived, 1)[0]).name
