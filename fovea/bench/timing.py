"""Times that can be compared: tasks take turns, so that whatever slows the machine slows them all.

In each round every task runs once, in an order drawn anew; times are medians over rounds, and a
ratio is the median of the rounds' ratios.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from statistics import median

Clock = Callable[[], float]
Task = Callable[[int], object]
"""Does its work; the number counts rounds, so that a task may vary it."""

Samples = dict[str, list[float]]
"""Seconds of each task, one value a round."""


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        rounds: of each task that is fast enough.
        fewest: rounds of a slow one.
        seconds: per task, unless it needs more for its fewest rounds.
    """

    rounds: int
    fewest: int
    seconds: float


def interleave(
    tasks: Mapping[str, Task],
    effort: Effort,
    clock: Clock = time.thread_time,
    between: Callable[[], object] | None = None,
) -> Samples:
    """Time tasks in turns, each after a warm-up.

    ``between`` runs before each task and is not timed: it leaves the caches as they are found in
    use, whichever task came before.
    """
    rounds = {name: _rounds(task, effort, clock) for name, task in tasks.items()}
    order = Random(0)
    samples: Samples = {name: [] for name in tasks}
    for index in range(effort.rounds):
        names = [name for name, count in rounds.items() if index < count]
        order.shuffle(names)
        for name in names:
            if between is not None:
                between()
            samples[name].append(_time(tasks[name], index, clock))
    return samples


def ratio(samples: Samples, of: str, to: str) -> float:
    """Compare two tasks of one run: the median of their ratio, over rounds that timed both."""
    pairs = zip(samples[of], samples[to], strict=False)  # a slow task had fewer rounds
    return median(one / other for one, other in pairs)


def _rounds(task: Task, effort: Effort, clock: Clock) -> int:
    """Warm up, and say how many rounds a task can run within the effort."""
    seconds = _time(task, 0, clock)
    if seconds < effort.seconds / 3:  # the first run may have compiled or allocated
        seconds = min(seconds, _time(task, 1, clock), _time(task, 2, clock))
    affordable = int(effort.seconds / max(seconds, 1e-9))
    return min(effort.rounds, max(affordable, effort.fewest))


def _time(task: Task, index: int, clock: Clock) -> float:
    start = clock()
    task(index)
    return clock() - start
