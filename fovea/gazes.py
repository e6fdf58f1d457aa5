"""Gazes of a sequence that are drawn before it begins, as the paper's random glimpses are."""

import torch
from torch import Tensor

from fovea.draws import draw
from fovea.interfaces import GazePolicy, Scene


@torch.no_grad()
def gazes_ahead(
    policy: GazePolicy, scene: Scene, state: Tensor, glimpses: int, generator: torch.Generator
) -> list[Tensor]:
    """Ask a policy for S gazes [B, 2] over a scene, each time for the same state [B, K, D]."""
    begun = policy.begin(scene)
    gazes = []
    for _ in range(glimpses):
        gazes.append(draw(begun(state), generator))
        begun.observe(gazes[-1])
    return gazes
