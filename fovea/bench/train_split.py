"""Where the time of a training step goes, seen from outside: by hooks, and calls that are wrapped.

Each moment belongs to one part, that which was entered last and not left yet; what is in none is
``other``. On a GPU the parts are those of its own time.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn
from torch.autograd.graph import register_multi_grad_hook

from fovea.bench.names import BACKWARD, LOSS, OTHER, STUDENT, TEACHER, UPDATE

M = TypeVar("M")


class Clock(Protocol[M]):
    """Marks moments, and tells the seconds between two of them afterwards."""

    def mark(self) -> M:
        """Mark this moment."""

    def seconds(self, start: M, end: M) -> float:
        """Tell the time between two marks."""


class WallClock:
    """The time of day."""

    def mark(self) -> float:
        """Read the clock."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Subtract."""
        return end - start


class DeviceClock:
    """When a CUDA device comes to what it was asked to do; nothing waits for it meanwhile."""

    def mark(self) -> torch.cuda.Event:
        """Have the device note when it gets here."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Wait for the later one, and subtract."""
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1000


def clock_of(device: torch.device) -> Clock[Any]:
    """Return the clock of what runs on a device."""
    return DeviceClock() if device.type == "cuda" else WallClock()


class Split(Generic[M]):
    """Adds up the time of each part of what runs between ``start`` and ``stop``."""

    def __init__(self, clock: Clock[M]):
        self.clock = clock
        self.parts: list[str] = [OTHER]
        self.marks: list[tuple[str, M]] = []

    def start(self) -> None:
        """Begin, outside of any part."""
        self.parts = [OTHER]
        self.marks = []
        self._mark()

    def stop(self) -> dict[str, float]:
        """Return the seconds of each part since the start."""
        self._mark()
        seconds: dict[str, float] = {}
        for (part, start), (_, end) in pairwise(self.marks):
            seconds[part] = seconds.get(part, 0.0) + self.clock.seconds(start, end)
        return seconds

    def enter(self, part: str) -> None:
        """Begin a part, within another or none."""
        self.parts.append(part)
        self._mark()

    def leave(self) -> None:
        """End the part that was entered last."""
        self.parts.pop()
        self._mark()

    @contextmanager
    def part(self, part: str) -> Iterator[None]:
        """Count what runs within."""
        self.enter(part)
        try:
            yield
        finally:
            self.leave()

    def wrap(self, owner: object, method: str, part: str) -> None:
        """Count the calls of an object's method."""
        call = getattr(owner, method)

        def counted(*arguments: object, **named: object) -> object:
            with self.part(part):
                return call(*arguments, **named)

        setattr(owner, method, counted)

    def watch(self, whole: nn.Module, teacher: nn.Module, student: nn.Module) -> None:
        """Count a step of which ``whole`` computes the loss, by two networks.

        From the end of its forward pass to the last gradient is the backward pass; what comes
        afterwards, to the end of ``step``, is the update.
        """
        for module, part in ((teacher, TEACHER), (student, STUDENT), (whole, LOSS)):
            module.register_forward_pre_hook(self._entering(part))
            module.register_forward_hook(self._leaving)
        whole.register_forward_hook(lambda *_: self.enter(BACKWARD))
        trained = [one for one in whole.parameters() if one.requires_grad]
        register_multi_grad_hook(trained, self._graded)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Run one optimiser step; at its end, no part is open."""
        yield
        while len(self.parts) > 1:
            self.leave()

    def _mark(self) -> None:
        self.marks.append((self.parts[-1], self.clock.mark()))

    def _entering(self, part: str) -> Callable[..., None]:
        return lambda *_: self.enter(part)

    def _leaving(self, *_: object) -> None:
        self.leave()

    def _graded(self, *_: object) -> None:
        self.leave()
        self.enter(UPDATE)
