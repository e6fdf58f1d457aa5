"""A small backbone and a policy that notice if a sequence is not run as it should be."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.distributions import Distribution

from fovea.config import Section
from fovea.interfaces import Backbone, GazePolicy, Scene
from fovea.parts import create
from fovea.testing import inputs
from fovea.testing.rules import expect


class _Seen(torch.autograd.Function):
    """Marks a state, in the graph of gradients, as what a glimpse has led to."""

    @staticmethod
    def forward(ctx: FunctionCtx, state: Tensor) -> Tensor:
        return state.view_as(state)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient


class Witness(Backbone):
    """One linear layer; it refuses a state through which gradient would reach a glimpse before."""

    Config = Section

    def __init__(self) -> None:
        super().__init__()
        self.width, self.num_state_tokens = inputs.WIDTH, inputs.STATE_TOKENS
        self.mean, self.std = (0.5,) * inputs.CHANNELS, (0.25,) * inputs.CHANNELS
        self.first = nn.Parameter(torch.randn(self.num_state_tokens, self.width))
        self.layer = nn.Linear(inputs.CHANNELS * inputs.PATCH**2 + 3, self.width)

    def initial_state(self, batch: int) -> Tensor:
        """Return the learned first state [batch, K, D]."""
        return self.first.expand(batch, -1, -1)

    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        """See: patches [B, N, C, P, P], windows [B, N, 3], state [B, K, D] -> state [B, K, D]."""
        expect(not _comes_from_a_glimpse(state), "the state of a glimpse was not detached")
        tokens = torch.cat([patches.flatten(2), windows.to(patches.dtype)], dim=-1)
        seen = torch.tanh(state + self.layer(tokens).mean(1, keepdim=True))
        return _Seen.apply(seen)  # type: ignore[no-any-return]


class Attentive(GazePolicy):
    """Gazes at random; it refuses to be asked before ``begin``, or while it waits for a gaze."""

    Config = Section

    def __init__(self, begun: bool = False):
        super().__init__()
        sizes = {"width": inputs.WIDTH, "num_state_tokens": inputs.STATE_TOKENS}
        self.random: GazePolicy = create("gaze_policy", "random", **sizes)
        self.begun, self.waits = begun, False

    def begin(self, scene: Scene) -> GazePolicy:
        """Return one that may be asked."""
        return Attentive(begun=True)

    def forward(self, state: Tensor) -> Distribution:
        """Look anywhere: state [B, K, D] -> distribution, batch [B], event [2]."""
        expect(self.begun, "the policy was asked, and not what its begin(scene) returns")
        expect(not self.waits, "the policy was asked again before it was told a gaze by observe()")
        self.waits = True
        distribution: Distribution = self.random(state)
        return distribution

    def observe(self, gaze: Tensor) -> None:
        """Wait no longer."""
        self.waits = False


def _comes_from_a_glimpse(state: Tensor) -> bool:
    """Search the graph of gradients behind a state."""
    to_do: list[Any] = [state.grad_fn]
    known = set()
    while to_do:
        node = to_do.pop()
        if node is None or node in known:
            continue
        if node.name() == "_SeenBackward":
            return True
        known.add(node)
        to_do += [following for following, _ in node.next_functions]
    return False
