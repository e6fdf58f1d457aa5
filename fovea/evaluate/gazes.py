"""Ways to choose a gaze: the policy, and the controls that it has to beat."""

from collections.abc import Callable

import torch
from torch import Tensor

from fovea.draws import draw
from fovea.interfaces import GazePolicy, Scene

Choose = Callable[[Tensor], Tensor]
"""Chooses the next gaze [B, 2] from the state [B, K, D]."""

Gaze = Callable[[Scene, Tensor | None, torch.Generator], Choose]
"""Begins a sequence over a scene; the objects' boxes [B, 4] are given where known."""

CENTRE_STD = 0.15


def sampled(policy: GazePolicy) -> Gaze:
    """Sample from a policy."""

    def begin(scene: Scene, boxes: Tensor | None, generator: torch.Generator) -> Choose:
        bound = policy.begin(scene)
        return _observed(bound, lambda state: draw(bound(state), generator))

    return begin


def greedy(policy: GazePolicy) -> Gaze:
    """Take a policy's most favoured gaze."""

    def begin(scene: Scene, boxes: Tensor | None, generator: torch.Generator) -> Choose:
        bound = policy.begin(scene)
        return _observed(bound, bound.best)

    return begin


def centre(scene: Scene, boxes: Tensor | None, generator: torch.Generator) -> Choose:
    """Look at the centre of the image each time."""
    middle = torch.full((len(scene), 2), 0.5, device=scene.sizes.device)
    return lambda state: middle


def centre_gaussian(scene: Scene, boxes: Tensor | None, generator: torch.Generator) -> Choose:
    """Look about the centre: what a policy reaches that knows photographs but not this image."""

    def choose(state: Tensor) -> Tensor:
        noise = torch.randn(len(state), 2, generator=generator, device=generator.device)
        return (0.5 + CENTRE_STD * noise).to(state.device)

    return choose


def oracle(scene: Scene, boxes: Tensor | None, generator: torch.Generator) -> Choose:
    """Look about the middle of the object, spread over its middle half."""
    assert boxes is not None
    low, high = boxes[:, :2], boxes[:, 2:]

    def choose(state: Tensor) -> Tensor:
        share = torch.rand(len(state), 2, generator=generator, device=generator.device)
        return low + (high - low) * (0.25 + 0.5 * share.to(state.device))

    return choose


def _observed(policy: GazePolicy, choose: Choose) -> Choose:
    """Tell a policy each gaze that is chosen."""

    def chosen(state: Tensor) -> Tensor:
        gaze = choose(state)
        policy.observe(gaze)
        return gaze

    return chosen
