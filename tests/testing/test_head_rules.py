"""For each rule of task heads, one that breaks it, and is caught."""

from typing import Any

import pytest
from testing.strangers import Settings, assert_caught, assert_passes, registered
from torch import Tensor, nn

from fovea.config import Section
from fovea.interfaces import TaskHead
from fovea.testing import modules
from fovea.testing import task_head as rules
from fovea.testing.rules import Rule, check
from fovea.testing.settings import RULES as SETTINGS


class Plain(TaskHead):
    """One layer on the mean token."""

    Config = Settings

    def __init__(self, config: Section, *, width: int, num_state_tokens: int, num_classes: int):
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, state: Tensor) -> Tensor:
        return self.linear(state.mean(1))


def giving(change: Any) -> type:
    """Make a head of what it does to its logits."""

    class Altered(Plain):
        def forward(self, state: Tensor) -> Tensor:
            return change(super().forward(state), state)

    return Altered


class WithAnIdlePart(Plain):
    def __init__(self, config: Section, *, width: int, num_state_tokens: int, num_classes: int):
        super().__init__(
            config, width=width, num_state_tokens=num_state_tokens, num_classes=num_classes
        )
        self.idle = nn.Linear(1, 1)


BROKEN: list[tuple[type, Rule]] = [
    (giving(lambda logits, state: logits[:, :3]), rules.gives_logits),
    (giving(lambda logits, state: logits / 0), rules.gives_logits),
    (giving(lambda logits, state: (logits, state.add_(1))[0]), rules.leaves_the_state),
    (giving(lambda logits, state: logits - logits.mean(0)), rules.classifies_each_image_for_itself),
    (WithAnIdlePart, rules.trains_all_of_itself),
    (giving(lambda logits, state: logits.detach()), rules.trains_all_of_itself),
]


def test_a_plain_one_passes() -> None:
    assert_passes("task_head", Plain)


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("task_head", target, rule)


def test_logits_elsewhere_are_caught() -> None:
    target, seen = giving(lambda logits, state: logits.cpu()), r"but a logit is on cpu$"
    with registered("task_head", target) as name, pytest.raises(AssertionError, match=seen):
        check(rules.Head(name, {}), [modules.works_on_a_device])


def test_every_rule_has_one_that_breaks_it() -> None:
    tested = {rule for _, rule in BROKEN} | set(modules.RULES)  # those are broken by backbones
    assert tested | set(SETTINGS) == set(rules.RULES)
