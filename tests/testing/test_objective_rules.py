"""For each rule of SSL objectives, one that breaks it, and is caught."""

import copy
from typing import Any

import pytest
import torch
from testing.strangers import Settings, assert_caught, assert_passes
from torch import Tensor, nn

from fovea.config import Section
from fovea.draws import draw
from fovea.interfaces import Backbone, ContextBuilder, GazePolicy, Loss, Scene, SSLObjective
from fovea.testing import ssl_objective as rules
from fovea.testing.rules import Rule
from fovea.testing.settings import RULES as SETTINGS


class Plain(SSLObjective):
    """Two glimpses; together they predict what the teacher sees in the second."""

    Config = Settings
    detaches = begins = tells = True

    def __init__(
        self, config: Section, *, backbone: Backbone, context: ContextBuilder, policy: GazePolicy
    ):
        super().__init__(config, backbone=backbone, context=context, policy=policy)
        self.student = backbone
        self.teacher = copy.deepcopy(backbone).requires_grad_(False)
        self.predict = nn.Linear(backbone.width, backbone.width)
        self.context, self.policy = context, policy
        self.finest_zoom = context.finest_zoom

    def forward(self, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        states, state = [], self.student.initial_state(len(scene))
        policy = self.policy.begin(scene) if self.begins else self.policy
        for _ in range(2):
            gaze = draw(policy(state.detach()), generator)
            if self.tells:
                policy.observe(gaze)
            windows = self.context.windows(gaze, scene.sizes, generator)
            patches = scene.read(windows)
            states.append(self.student(patches, windows, state))
            state = states[-1].detach() if self.detaches else states[-1]
        with torch.no_grad():
            target = self.teacher(patches, windows, self.teacher.initial_state(len(scene)))
        features = (states[0] + states[1])[:, 0]
        loss = (self.predict(features) - target[:, 0]).square().mean()
        return Loss(loss, {"spread": features.std().detach()}, {"glimpse": features.detach()})

    @torch.no_grad()
    def update(self, progress: float) -> None:
        for mine, theirs in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            mine.lerp_(theirs, 0.01)

    def trained_backbone(self) -> Backbone:
        return self.teacher


def made(**changes: Any) -> type:
    """Make a subclass of the plain objective with other methods."""
    return type("Altered", (Plain,), {"__module__": __name__, **changes})


def giving(change: Any) -> type:
    """Make an objective of what it does to its loss, given itself, scene and progress."""

    def forward(self: Plain, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        return change(self, Plain.forward(self, scene, progress, generator), scene, progress)

    return made(forward=forward)


def total(change: Any) -> type:
    """Make an objective of another total, given itself, the plain one, and progress."""
    return giving(lambda self, loss, scene, p: Loss(change(self, loss.total, p), loss.metrics))


def built_with(change: Any) -> type:
    def construct(
        self: Plain, config: Section, *, backbone: Any, context: Any, policy: Any
    ) -> None:
        Plain.__init__(self, config, backbone=backbone, context=context, policy=policy)
        change(self)

    return made(__init__=construct)


def forgets(self: Plain, progress: float) -> None:
    """Move the teacher by numbers that were left on the CPU."""
    Plain.update(self, progress)
    for weight in self.teacher.parameters():
        weight.data.add_(torch.zeros(weight.shape))


def grows(self: Plain, progress: float) -> None:
    """Carry a number from step to step that no checkpoint has."""
    Plain.update(self, progress)
    self.factor = 2 * getattr(self, "factor", 1)


def grown(self: Plain, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
    return Loss(Plain.forward(self, scene, progress, generator).total * getattr(self, "factor", 1))


def moves(self: Plain, loss: Tensor, progress: float) -> Tensor:
    with torch.no_grad():
        next(self.teacher.parameters()).add_(1e-3)
    return loss


def looks_closely(self: Plain, loss: Loss, scene: Scene, progress: float) -> Loss:
    scene.read(torch.tensor([[[0.5, 0.5, 5.0]]]).double().expand(len(scene), 1, 3))
    return loss


def overflows(self: Plain, loss: Tensor, progress: float) -> Tensor:
    one = torch.ones(1, 1) @ torch.full((1, 1), 1.001)  # 1 in bfloat16
    return loss + 0 * (1 / (one.float() - 1)).sum()


BROKEN: list[tuple[type, Rule]] = [
    (total(lambda self, loss, p: loss[None]), rules.gives_a_loss),
    (total(lambda self, loss, p: loss / (1 - p)), rules.gives_a_loss),
    (giving(lambda self, loss, s, p: loss.total), rules.gives_a_loss),
    (giving(lambda self, loss, s, p: Loss(loss.total, {"loss": loss.total})), rules.gives_metrics),
    (giving(lambda self, loss, s, p: Loss(loss.total, {}, {"all": torch.ones(3, 2)})),
     rules.gives_metrics),
    (total(lambda self, loss, p: loss * (1 + torch.rand(()))), rules.follows_its_generator),
    (built_with(lambda self: self.teacher.requires_grad_(True)), rules.trains_what_it_keeps),
    (built_with(lambda self: self.student.requires_grad_(False)), rules.trains_a_backbone),
    (total(moves), rules.leaves_its_weights),
    (made(detaches=False), rules.detaches_states),
    (made(begins=False), rules.runs_its_policy),
    (made(tells=False), rules.runs_its_policy),
    (made(trained_backbone=lambda self: copy.deepcopy(self.teacher)), rules.hands_on_a_backbone),
    (made(trained_backbone=lambda self: self.predict), rules.hands_on_a_backbone),
    (giving(looks_closely), rules.reads_no_closer_than_it_says),
    (made(update=grows, forward=grown), rules.resumes_exactly),
    (total(lambda self, loss, p: 2 * loss.detach() - loss), rules.learns),
    (total(overflows), rules.survives_bfloat16),
    (total(lambda self, loss, p: loss.cpu()), rules.works_on_a_device),
    (total(lambda self, loss, p: (loss + torch.zeros(2)).mean()), rules.works_on_a_device),
    (made(update=forgets), rules.works_on_a_device),
]  # fmt: skip


def test_a_plain_one_passes() -> None:
    assert_passes("ssl_objective", Plain)


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("ssl_objective", target, rule)


def test_every_rule_has_one_that_breaks_it() -> None:
    assert {rule for _, rule in BROKEN} | set(SETTINGS) == set(rules.RULES)
