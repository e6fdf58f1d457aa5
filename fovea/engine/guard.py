"""Guards the weights: a step with numbers that are not finite, or with a sudden loss, is not taken.

The rule for sudden losses is that of OLMo: more than 6 sigma above the mean of the last 128 steps.
Ours is robust: a loss above the limit is remembered as the limit, so that one spike does not hide
the next, and a lasting change is accepted after a few steps; and sigma is at least 2 % of the mean.
"""

import math
from collections import deque
from collections.abc import Iterable
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

MOST_IN_A_ROW = 3
_WINDOW = 128
_ENOUGH = 64  # before, there is no telling what is usual
_SIGMAS = 6.0
_LEAST_SIGMA = 0.02  # of the mean


class Guard:
    """Judges steps: the device before it updates anything, the host as soon as it has the numbers.

    Both compare the same float32 numbers in the same way, so they never differ.

    Attributes:
        losses: of the last steps.
        skipped: steps that were not taken, in all.
        in_a_row: how many of the last steps had numbers that were not finite.
    """

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=_WINDOW)
        self.skipped = self.in_a_row = 0

    def objects(self, numbers: Tensor) -> Tensor:
        """Judge on the device as ``objection`` will on the host; nothing waits.

        Args:
            numbers: float32 [2], loss and norm of the gradient.

        Returns:
            float32 [], 1 where the step is not to be taken, otherwise 0.
        """
        is_good = torch.isfinite(numbers).all() & (numbers[0] <= self.limit())
        return (~is_good).float()

    def objection(self, loss: float, norm: float) -> str | None:
        """Say why a step is not to be taken, or None, from its loss and its gradient's norm."""
        for what, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                self.skipped += 1
                self.in_a_row += 1
                return f"the {what} is {value}"
        self.in_a_row = 0
        limit = self.limit()
        self.losses.append(min(loss, limit))
        if loss <= limit:
            return None
        self.skipped += 1
        return f"the loss is {loss:.5g}, above {limit:.5g}, 6 sigma over the last {_WINDOW} steps"

    def state(self) -> dict[str, Any]:
        """Return all that the next judgement depends on."""
        return {"losses": list(self.losses), "skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self.losses.clear()
        self.losses.extend(state["losses"])
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    def limit(self) -> float:
        """Return the greatest loss that is taken: a float32, as the losses are."""
        if len(self.losses) < _ENOUGH:
            return math.inf
        mean = fmean(self.losses)
        limit = mean + _SIGMAS * max(pstdev(self.losses, mean), _LEAST_SIGMA * abs(mean))
        return torch.tensor(limit, dtype=torch.float32).item()


def copies(buffers: Iterable[Tensor]) -> list[Tensor]:
    """Copy what a forward pass changes besides the weights, in one launch."""
    now = list(buffers)
    before = [torch.empty_like(one) for one in now]
    put_back(now=before, before=now)
    return before


def put_back(now: Iterable[Tensor], before: list[Tensor]) -> None:
    """Give buffers the values that they had."""
    if before:  # torch refuses empty lists
        torch._foreach_copy_(list(now), before)
