"""For each rule of contexts, one that breaks it, and is caught."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from testing.strangers import Settings, assert_caught, assert_passes
from torch import Tensor

from fovea.config import Section
from fovea.draws import uniform
from fovea.interfaces import ContextBuilder
from fovea.testing import context_builder as rules
from fovea.testing.rules import Rule
from fovea.testing.settings import RULES as SETTINGS


class Plain(ContextBuilder):
    """A window at the gaze, whose zoom is drawn from 1..2."""

    Config = Settings
    num_windows = 1
    finest_zoom = 2.0

    def __init__(self, config: Section):
        self.calls = 0

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        zoom = torch.full((len(gaze), 1), 1.5, dtype=torch.float64, device=gaze.device)
        if generator is not None:
            zoom = 1 + uniform((len(gaze), 1), generator)
        return torch.cat([gaze.double(), zoom], dim=1)[:, None]


def altered(change: Callable[[Tensor, Tensor, Tensor, torch.Generator | None], Tensor]) -> type:
    """Make a context of what it does to plain windows, gaze and sizes."""

    class Altered(Plain):
        def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
            return change(super().windows(gaze, sizes, generator), gaze, sizes, generator)

    return Altered


def global_when(is_training: bool) -> type:
    def change(
        windows: Tensor, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        here = (generator is not None) is is_training
        return windows - torch.rand(1).double() if here else windows

    return altered(change)


def unseeded(
    windows: Tensor, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None
) -> Tensor:
    return windows - (np.random.default_rng().random() if generator is not None else 0)


def moves_the_gaze(
    windows: Tensor, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None
) -> Tensor:
    gaze += 1
    return windows


BROKEN: list[tuple[type, Rule]] = [
    (altered(lambda w, g, s, d: w.float()), rules.gives_windows),
    (altered(lambda w, g, s, d: w.expand(-1, 2, -1)), rules.gives_windows),
    (altered(lambda w, g, s, d: w / (g[:, None, :1] - 1)), rules.gives_finite_windows),
    (global_when(False), rules.is_fixed_without_a_generator),
    (global_when(True), rules.follows_its_generator),
    (altered(unseeded), rules.follows_its_generator),
    (altered(lambda w, g, s, d: w + (d is not None)), rules.keeps_to_its_finest_zoom),
    (altered(lambda w, g, s, d: w - w.amax(0)), rules.lays_each_image_for_itself),
    (altered(lambda w, g, s, d: w / s.amax()), rules.lays_each_image_for_itself),
    (altered(moves_the_gaze), rules.leaves_its_inputs),
    (altered(lambda w, g, s, d: w.cpu()), rules.works_on_a_device),
    (altered(lambda w, g, s, d: w + torch.zeros(3)), rules.works_on_a_device),
]


def test_a_plain_one_passes() -> None:
    assert_passes("context_builder", Plain)


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("context_builder", target, rule)


def test_every_rule_has_one_that_breaks_it() -> None:
    assert {rule for _, rule in BROKEN} | set(SETTINGS) == set(rules.RULES)
