"""Stop gracefully: a signal asks, the trainer finishes its step, saves, and ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}
"""75 (EX_TEMPFAIL) says: run the same command again to go on."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """Training stopped as asked, after saving."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = EXIT_CODES[signal.Signals(number)]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and where to look."""


class StopRequest:
    """Remembers the signal that asked to stop; a second Ctrl-C does not wait."""

    number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def graceful() -> Iterator[StopRequest]:
    """Catch SIGINT, SIGTERM and SIGUSR1 in this block."""
    request = StopRequest()
    before = {number: signal.signal(number, request) for number in EXIT_CODES}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
