"""Ways to choose a gaze: the policy, and the controls that it has to beat."""

from collections.abc import Callable

import torch
from torch import Tensor

from fovea.draws import draw
from fovea.interfaces import GazePolicy

Gaze = Callable[[Tensor, Tensor | None, torch.Generator], Tensor]
"""Chooses a gaze [B, 2] from the state [B, K, D] and the objects' boxes [B, 4] (where known)."""

CENTRE_STD = 0.15


def sampled(policy: GazePolicy) -> Gaze:
    """Sample from a policy."""
    return lambda state, boxes, generator: draw(policy(state), generator)


def greedy(policy: GazePolicy) -> Gaze:
    """Take a policy's most favoured gaze."""
    return lambda state, boxes, generator: policy.best(state)


def centre(state: Tensor, boxes: Tensor | None, generator: torch.Generator) -> Tensor:
    """Look at the centre of the image each time."""
    return torch.full((len(state), 2), 0.5, device=state.device)


def centre_gaussian(state: Tensor, boxes: Tensor | None, generator: torch.Generator) -> Tensor:
    """Look about the centre: what a policy reaches that knows photographs but not this image."""
    noise = torch.randn(len(state), 2, generator=generator, device=generator.device)
    return (0.5 + CENTRE_STD * noise).to(state.device)


def oracle(state: Tensor, boxes: Tensor | None, generator: torch.Generator) -> Tensor:
    """Look about the middle of the object, spread over its middle half."""
    assert boxes is not None
    low, high = boxes[:, :2], boxes[:, 2:]
    share = torch.rand(len(state), 2, generator=generator, device=generator.device)
    return low + (high - low) * (0.25 + 0.5 * share.to(state.device))
