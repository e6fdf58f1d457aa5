"""For each rule of gaze policies, one that breaks it, and is caught."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from testing.strangers import Settings, assert_caught, assert_passes
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from fovea.config import Section
from fovea.interfaces import GazePolicy, Scene
from fovea.testing import gaze_policy as rules
from fovea.testing import modules
from fovea.testing.rules import Rule
from fovea.testing.settings import RULES as SETTINGS


class Plain(GazePolicy):
    """A Gaussian about a point that it learns, away from where it looked last."""

    Config = Settings
    finest_zoom = 0.0

    def __init__(self, config: Section, *, width: int, num_state_tokens: int):
        super().__init__()
        self.mean = nn.Linear(width, 2)
        self.register_buffer("spread", torch.tensor(0.2))
        self.last: Tensor | None = None
        self.bright: Tensor | None = None

    def forward(self, state: Tensor) -> Distribution:
        mean = self.mean(state[:, 0]).sigmoid()
        if self.bright is not None:
            mean = mean + 0.01 * self.bright.repeat_interleave(len(mean) // len(self.bright), 0)
        if self.last is not None:
            mean = mean + 0.1 * (mean - self.last)
        return Independent(Normal(mean, self.spread.expand_as(mean)), 1)

    def anneal(self, progress: float) -> None:
        self.spread.fill_(0.2 - 0.1 * progress)

    def begin(self, scene: Scene) -> "Plain":
        bound = copy.copy(self)
        whole = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64).expand(len(scene), 1, 3)
        bright = scene.read(whole.to(scene.sizes.device)).mean((1, 2, 3, 4))
        bound.bright, bound.last = bright[:, None], None
        return bound

    def observe(self, gaze: Tensor) -> None:
        self.last = gaze


def made(**changes: Any) -> type:
    """Make a subclass of the plain policy with other methods."""
    return type("Altered", (Plain,), {"__module__": __name__, **changes})


def looking(change: Callable[[Any, Distribution, Tensor], Distribution]) -> type:
    """Make a policy of what it does to its distribution."""
    return made(forward=lambda self, state: change(self, Plain.forward(self, state), state))


def normal(mean: Tensor, std: float = 0.2) -> Distribution:
    return Independent(Normal(mean, std), 1)


def closer(self: Plain, scene: Scene) -> Plain:
    window = torch.tensor([[[0.5, 0.5, 1.0]]], device=scene.sizes.device).double()
    scene.read(window.expand(len(scene), 1, 3))
    return Plain.begin(self, scene)


def stays(self: Plain, scene: Scene) -> Plain:
    self.bright = Plain.begin(self, scene).bright
    return self


def adds_one(self: Plain, gaze: Tensor) -> None:
    gaze += 1


class Scheduled(Plain):
    """Keeps its spread out of the state dict."""

    def __init__(self, config: Section, *, width: int, num_state_tokens: int):
        super().__init__(config, width=width, num_state_tokens=num_state_tokens)
        self.register_buffer("spread", torch.tensor(0.2), persistent=False)


class Idle(Plain):
    def __init__(self, config: Section, *, width: int, num_state_tokens: int):
        super().__init__(config, width=width, num_state_tokens=num_state_tokens)
        self.idle = nn.Parameter(torch.zeros(1))


def mixed_up(self: Plain, found: Distribution, state: Tensor) -> Distribution:
    return normal(found.mean - found.mean.mean(0))


BROKEN: list[tuple[type, Rule]] = [
    (looking(lambda self, d, s: d.mean), rules.gives_a_distribution),
    (looking(lambda self, d, s: d.base_dist), rules.gives_a_distribution),
    (looking(lambda self, d, s: normal(d.mean, float("inf"))), rules.gives_gazes),
    (made(best=lambda self, state: Plain.best(self, state)[:1]), rules.gives_gazes),
    (looking(lambda self, d, s: (d, s.add_(1))[0]), rules.leaves_its_inputs),
    (made(observe=adds_one), rules.leaves_its_inputs),
    (looking(lambda self, d, s: normal(d.mean + torch.rand(()))), rules.follows_its_generator),
    (looking(mixed_up), rules.looks_at_each_image_for_itself),
    (made(begin=stays), rules.keeps_each_sequence_apart),
    (made(begin=closer), rules.reads_no_closer_than_it_says),
    (Idle, rules.trains_all_of_itself),
    (looking(lambda self, d, s: normal(d.mean.detach())), rules.trains_all_of_itself),
    (made(anneal=lambda self, progress: self.spread.fill_(progress / 0.0)), rules.anneals),
    (Scheduled, rules.keeps_what_it_annealed),
]


def test_a_plain_one_passes() -> None:
    assert_passes("gaze_policy", Plain)


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("gaze_policy", target, rule)


def test_every_rule_has_one_that_breaks_it() -> None:
    tested = {rule for _, rule in BROKEN} | set(modules.RULES)  # those are broken by backbones
    assert tested | set(SETTINGS) == set(rules.RULES)
