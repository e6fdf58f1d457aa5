"""The contract of task heads."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fovea.interfaces import TaskHead
from fovea.testing import inputs
from fovea.testing.modules import RULES as MODULE
from fovea.testing.modules import ModuleSubject, Outputs, expect_close, expect_gradients
from fovea.testing.rules import Rule, check, expect
from fovea.testing.settings import RULES as SETTINGS

_BATCH = 4


@dataclass(frozen=True)
class Head(ModuleSubject):
    """A head under test."""

    kind: ClassVar[str] = "task_head"
    sizes: ClassVar[dict[str, Any]] = {
        "width": inputs.WIDTH,
        "num_state_tokens": inputs.STATE_TOKENS,
        "num_classes": 5,
    }

    def state(self, device: str = "cpu") -> Tensor:
        """Draw a state [B, K, D]."""
        K, D = (self.given.get(name, self.sizes[name]) for name in ("num_state_tokens", "width"))
        return inputs.random((_BATCH, K, D)).to(device)

    def outputs(self, module: TaskHead, device: str = "cpu") -> Outputs:
        """Classify."""
        with torch.no_grad():
            return {"a logit": module(self.state(device))}


def check_task_head(name: str, /, **settings: Any) -> None:
    """Check a registered head against its contract.

    Args:
        name: the registered one.
        **settings: of its Config; also ``width``, ``num_state_tokens`` and ``num_classes``.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    check(Head(name, settings), RULES)


def gives_logits(head: Head) -> None:
    """Logits are finite, [B, classes], for any number of classes."""
    for classes in (1, 5):
        logits = head.build(num_classes=classes)(head.state())
        wanted = [_BATCH, classes]
        expect(list(logits.shape) == wanted, f"they are {list(logits.shape)}, not {wanted}")
        expect(bool(logits.isfinite().all()), "they are not finite")


def classifies_each_image_for_itself(head: Head) -> None:
    """In evaluation mode, an image's logits do not depend on the others in its batch."""
    built, state = head.build(), head.state()
    together = built(state)
    for b in range(_BATCH):
        alone = built(state[b : b + 1])
        expect_close(alone, together[b : b + 1], "logits of an image alone and in a batch")


def leaves_the_state(head: Head) -> None:
    """The state is left as it was."""
    state = head.state()
    head.build()(state)
    expect(torch.equal(state, head.state()), "it is changed")


def trains_all_of_itself(head: Head) -> None:
    """Every parameter that asks for a gradient gets one."""
    built = head.build().train()
    expect_gradients(built, built(head.state()).sum())


RULES: tuple[Rule[Head], ...] = (
    *SETTINGS,
    gives_logits,
    leaves_the_state,
    *MODULE,
    classifies_each_image_for_itself,
    trains_all_of_itself,
)
