"""How fast a run goes, and how much of its time it waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Counts steps and takes the time since the last lap, and since it was made.

    Attributes:
        steps: finished since the last lap; whoever makes them counts them here.
    """

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.steps = self.steps_before = 0
        self.began = self.lap_began = time.monotonic()
        self.waited = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of this block as waiting for data."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.waited += time.monotonic() - before

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the time of this block out of the lap: it is no training."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.lap_began += time.monotonic() - before

    def lap(self) -> tuple[float, float]:
        """Return images per second and the share of time waited since the last lap; begin anew."""
        now = time.monotonic()
        seconds = max(now - self.lap_began, 1e-9)
        speed, share = self.steps * self.batch_size / seconds, self.waited / seconds
        self.steps_before += self.steps
        self.steps, self.waited, self.lap_began = 0, 0.0, now
        return speed, share

    def seconds_left(self, steps: int) -> float:
        """Guess how long so many steps will take, from all steps so far, whatever came between."""
        done = max(self.steps_before + self.steps, 1)
        return steps * (time.monotonic() - self.began) / done
