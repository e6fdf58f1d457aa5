"""Loops over files, as training runs: with worker processes, and their time split into parts."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Protocol

import torch

from fovea.bench.names import DATA
from fovea.bench.train_dino import DinoTraining
from fovea.bench.train_ours import OurTraining
from fovea.bench.train_split import Split, clock_of
from fovea.bench.train_step import Plan

_WARM = 2  # steps in which workers start and their queues fill


class Seconds:
    """A clock that stands still but for what is added to it."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        """Tell the seconds that were added."""
        return self.passed


class Batches(Protocol):
    """Batches that can be closed, with the processes that read them."""

    def __next__(self) -> Any:
        """Return the next batch."""

    def close(self) -> None:
        """Stop reading."""


class Loop:
    """A task: some steps over files, after a few that are not timed.

    The batches never end, so that workers are as busy at the last step as in the midst of training.

    Args:
        batches: begins to read.
        step: makes a step of a batch.
        split: of the parts within a step.
        steps: that are timed in each round.
        seconds: is told the time of one step.
    """

    def __init__(
        self,
        batches: Callable[[], Batches],
        step: Callable[[int, Any], None],
        split: Split[Any],
        steps: int,
        seconds: Seconds,
    ):
        self.batches, self.step, self.split = batches, step, split
        self.steps, self.seconds = steps, seconds
        self.splits: list[dict[str, float]] = []

    def __call__(self, index: int) -> None:
        """Run one round; note the seconds of a step, and of each part of it."""
        clock = self.split.clock
        with closing(self.batches()) as batches:
            for _ in range(_WARM):
                self._step(batches, index)
            start = clock.mark()
            self.split.start()
            for _ in range(self.steps):
                self._step(batches, index)
            parts = self.split.stop()
            self.seconds.passed += clock.seconds(start, clock.mark()) / self.steps
        self.splits.append({part: total / self.steps for part, total in parts.items()})

    def _step(self, batches: Batches, index: int) -> None:
        with self.split.part(DATA):
            batch = next(batches)
        with self.split.step():
            self.step(index, batch)


def our_loop(plan: Plan, steps: int, seconds: Seconds, changes: Sequence[str] = ()) -> Loop:
    """Train as we do."""
    ours = OurTraining(plan.recipe(changes))
    split = Split(clock_of(ours.device))
    ours.watch(split)
    return Loop(ours.batches, ours.step_of_feed, split, steps, seconds)


def dino_loop(plan: Plan, steps: int, seconds: Seconds) -> Loop:
    """Train as DINO does."""
    dino = DinoTraining(plan.recipe(), torch.device(plan.device))
    split = Split(clock_of(dino.device))
    split.watch(dino.networks, dino.networks.teacher, dino.networks.student)
    return Loop(dino.batches, lambda _, views: dino.step(views), split, steps, seconds)
