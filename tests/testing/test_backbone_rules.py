"""For each rule of backbones, and of networks, one that breaks it, and is caught."""

import threading
from typing import Any

import pytest
import torch
from testing.strangers import Settings, assert_caught, assert_passes, registered
from torch import Tensor, nn

from fovea.config import Section
from fovea.interfaces import Backbone, Scene
from fovea.testing import backbone as rules
from fovea.testing import modules
from fovea.testing.rules import Rule, check
from fovea.testing.settings import RULES as SETTINGS


class Plain(Backbone):
    """One layer over the mean of all patches."""

    Config = Settings

    def __init__(self, config: Section, *, patch_size: int, channels: int):
        super().__init__()
        self.width, self.num_state_tokens = 8, 2
        self.mean, self.std = (0.5,) * channels, (0.25,) * channels
        self.first = nn.Parameter(torch.randn(2, 8))
        self.embed = nn.Linear(channels * patch_size**2 + 3, 8)

    def initial_state(self, batch: int) -> Tensor:
        return self.first.expand(batch, -1, -1)

    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        place = windows.to(patches.dtype)
        tokens = torch.cat([patches.flatten(2) * place[..., :1], place], dim=-1)
        return torch.tanh(state + self.embed(tokens).mean(1, keepdim=True))


def made(name: str, **changes: Any) -> type:
    """Make a subclass of the plain backbone with other methods."""
    return type(name, (Plain,), {"__module__": __name__, **changes})


def built_with(change: Any) -> type:
    """Make a backbone of what is done to it when it is built."""

    def construct(self: Plain, config: Section, *, patch_size: int, channels: int) -> None:
        Plain.__init__(self, config, patch_size=patch_size, channels=channels)
        change(self)

    return made("Built", __init__=construct)


def seeing(change: Any) -> type:
    """Make a backbone of what it does to the state it leads to, given all that it was."""

    def forward(self: Plain, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        return change(self, Plain.forward(self, patches, windows, state), patches, windows, state)

    return made("Seeing", forward=forward)


def spread(self: Plain, batch: int) -> Tensor:
    return self.first.expand(batch, -1, -1) + torch.arange(batch)[:, None, None]


def remembers(self: Plain, seen: Tensor, *_: Tensor) -> Tensor:
    """Keep a trace of what was seen; the first glimpse does not show it."""
    before = getattr(self, "trace", None)
    self.trace = seen.detach().mean()
    return seen if before is None else seen + 1e-3 * before


def remembers_gradients(self: Plain, seen: Tensor, *_: Tensor) -> Tensor:
    """Let gradient, but no number, through from the glimpse before."""
    before = getattr(self, "trace", seen)
    self.trace = seen
    return seen + 0 * before.mean()


def draws_seed(self: Plain) -> None:
    self.embed.weight.data += torch.rand((), generator=_fresh())


def _fresh() -> torch.Generator:
    generator = torch.Generator()
    generator.seed()
    return generator


class Hiding(Plain):
    """Has a number that no state dict has."""

    def __init__(self, config: Section, *, patch_size: int, channels: int):
        super().__init__(config, patch_size=patch_size, channels=channels)
        self.hidden = torch.rand(())

    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        return super().forward(patches, windows, state) + self.hidden


class Narrow(Plain):
    """Overflows where bfloat16 stands for a number that float32 holds exactly."""

    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        seen = super().forward(patches, windows, state)
        one = torch.ones(1, 1) @ torch.full((1, 1), 1.001)  # 1 in bfloat16
        return seen + 0 * (1 / (one.float() - 1))[0, 0]


class Locked(Plain):
    """Cannot be copied."""

    def __init__(self, config: Section, *, patch_size: int, channels: int):
        super().__init__(config, patch_size=patch_size, channels=channels)
        self.lock = threading.Lock()


class Branching(Plain):
    """Goes by a number, which no program can."""

    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        seen = super().forward(patches, windows, state)
        return seen if float(patches.detach().mean()) > 0 else -seen


class Dropping(Plain):
    def look(self, scene: Scene, windows: Tensor, state: Tensor) -> Tensor:
        return super().look(scene, windows.flip(1) + 0.1, state)


def idle(self: Plain) -> None:
    self.unused = nn.Parameter(torch.zeros(1))


def fixed(self: Plain, batch: int) -> Tensor:
    return self.first.detach().expand(batch, -1, -1)


def brightens(self: Plain, seen: Tensor, patches: Tensor, *_: Tensor) -> Tensor:
    patches += 1
    return seen


BROKEN: list[tuple[type, Rule]] = [
    (built_with(lambda self: setattr(self, "width", 0)), rules.says_its_sizes),
    (built_with(lambda self: setattr(self, "std", (0.2,))), rules.says_its_sizes),
    (made("Flat", initial_state=lambda self, batch: self.first), rules.has_a_first_state),
    (made("Spread", initial_state=spread), rules.has_a_first_state),
    (seeing(lambda self, seen, *_: seen[:, :1]), rules.gives_the_next_state),
    (seeing(lambda self, seen, *_: seen / 0), rules.gives_the_next_state),
    (seeing(lambda self, seen, p, *_: seen[: 8 - p.shape[1]]), rules.gives_the_next_state),
    (built_with(draws_seed), modules.can_be_built_again),
    (seeing(lambda self, seen, *_: nn.functional.dropout(seen, 0.5)), modules.repeats_itself),
    (Hiding, modules.keeps_all_in_its_state_dict),
    (Narrow, modules.survives_bfloat16),
    (seeing(lambda self, seen, *_: seen + torch.zeros(seen.shape[-1])), modules.works_on_a_device),
    (seeing(lambda self, seen, *_: seen - seen.mean(0)), rules.sees_each_image_for_itself),
    (seeing(lambda self, seen, p, w, s: torch.tanh(s + self.embed.bias)),
     rules.uses_all_that_it_is_given),
    (seeing(brightens), rules.leaves_its_inputs),
    (built_with(idle), rules.trains_all_of_itself),
    (made("Fixed", initial_state=fixed), rules.trains_all_of_itself),
    (seeing(lambda self, seen, p, w, s: Plain.forward(self, p, w, s.detach()) + 0 * seen.sum() * 0),
     rules.does_not_detach),
    (seeing(remembers_gradients), rules.ends_gradients_with_the_state),
    (Dropping, rules.looks_as_it_sees),
    (Locked, rules.can_be_copied),
    (made("Sparing", no_weight_decay=lambda self: {"nothing"}), rules.spares_its_own_parameters),
    (made("Twice", layers=lambda self: [self.embed] * 2), rules.lists_its_own_layers),
    (made("Foreign", layers=lambda self: [nn.Linear(1, 1)]), rules.lists_its_own_layers),
    (Branching, rules.can_be_exported),
]  # fmt: skip


def test_a_plain_one_passes() -> None:
    assert_passes("backbone", Plain, export=True)


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("backbone", target, rule, export=rule is rules.can_be_exported)


def test_one_that_remembers_is_caught() -> None:
    """By the first rule that sees twice; the one that is about it catches it alone, too."""
    with registered("backbone", seeing(remembers)) as name:
        subject = rules.Network(name, {}, False)
        with pytest.raises(AssertionError, match=r"a state differs by up to .* another glimpse$"):
            check(subject, [rules.keeps_nothing_between_calls])


def test_every_rule_has_one_that_breaks_it() -> None:
    tested = {rule for _, rule in BROKEN} | {rules.keeps_nothing_between_calls}
    assert tested | set(SETTINGS) == set(rules.RULES)
