"""The contract of backbones."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fovea.interfaces import Backbone
from fovea.testing import inputs
from fovea.testing.modules import RULES as MODULE
from fovea.testing.modules import (
    ModuleSubject,
    Outputs,
    expect_close,
    expect_equal,
    expect_gradients,
)
from fovea.testing.rules import Rule, check, expect
from fovea.testing.settings import RULES as SETTINGS

_BATCH = 3
_WINDOWS = 7


@dataclass(frozen=True)
class Network(ModuleSubject):
    """A backbone under test.

    Attributes:
        export: whether torch.export is promised.
    """

    export: bool
    kind: ClassVar[str] = "backbone"
    sizes: ClassVar[dict[str, Any]] = {"patch_size": inputs.PATCH, "channels": inputs.CHANNELS}

    def size(self, name: str) -> int:
        """Return what the constructor is given."""
        return int(self.given.get(name, self.sizes[name]))

    def glimpse(
        self, batch: int = _BATCH, count: int = _WINDOWS, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Draw patches [batch, count, C, P, P] and windows [batch, count, 3]."""
        P, C = self.size("patch_size"), self.size("channels")
        patches = inputs.random((batch, count, C, P, P), seed)
        return patches, inputs.windows(batch, count, seed)

    def outputs(self, module: Backbone, device: str = "cpu") -> Outputs:
        """See two glimpses, one after the other."""
        first, second = (
            tuple(one.to(device) for one in self.glimpse(seed=seed)) for seed in (0, 1)
        )
        with torch.no_grad():
            state = module(*first, module.initial_state(_BATCH))
            return {"the state": state, "the next state": module(*second, state)}


def check_backbone(name: str, /, *, export: bool = False, **settings: Any) -> None:
    """Check a registered backbone against its contract.

    Args:
        name: the registered one.
        export: whether torch.export is promised, and to be checked.
        **settings: of its Config, best such that it is small; also ``patch_size`` and ``channels``.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    check(Network(name, settings, export), RULES)


def says_its_sizes(network: Network) -> None:
    """`width` and `num_state_tokens` are positive; `mean` and `std` have a number per channel."""
    built, C = network.build(), network.size("channels")
    for name in ("width", "num_state_tokens"):
        number = getattr(built, name)
        expect(isinstance(number, int) and number > 0, f"{name} is {number!r}")
    for name in ("mean", "std"):
        numbers = getattr(built, name)
        expect(len(numbers) == C, f"{name} has {len(numbers)}, for {C} channels")
    expect(min(built.std) > 0, f"std is {built.std}")


def has_a_first_state(network: Network) -> None:
    """The first state is [batch, K, D], the same for every image."""
    built = network.build()
    state = built.initial_state(_BATCH)
    wanted = [_BATCH, built.num_state_tokens, built.width]
    expect(list(state.shape) == wanted, f"it is {list(state.shape)}, not {wanted}")
    expect(torch.equal(state, state[:1].expand_as(state)), "images begin differently")


def gives_the_next_state(network: Network) -> None:
    """The next state is finite, [B, K, D], however many windows a glimpse has."""
    built = network.build()
    for batch, count in ((1, 1), (_BATCH, _WINDOWS), (2, 16)):
        state = built(*network.glimpse(batch, count), built.initial_state(batch))
        wanted = [batch, built.num_state_tokens, built.width]
        seen = f"{count} windows give {list(state.shape)}, not {wanted}"
        expect(list(state.shape) == wanted, seen)
        expect(bool(state.isfinite().all()), f"{count} windows give one that is not finite")


def sees_each_image_for_itself(network: Network) -> None:
    """In evaluation mode, an image's state does not depend on the others in its batch."""
    built, (patches, windows) = network.build(), network.glimpse()
    together = built(patches, windows, built.initial_state(_BATCH))
    for b in range(_BATCH):
        alone = built(patches[b : b + 1], windows[b : b + 1], built.initial_state(1))
        expect_close(alone, together[b : b + 1], "states of an image alone and in a batch")


def uses_all_that_it_is_given(network: Network) -> None:
    """The next state depends on the patches, on their windows, and on the state before."""
    built, (patches, windows) = network.build(), network.glimpse()
    state = built(patches, windows, built.initial_state(_BATCH))
    others = {
        "patches": (1 - patches, windows, built.initial_state(_BATCH)),
        "windows": (patches, windows.flip(1), built.initial_state(_BATCH)),
        "state": (patches, windows, built.initial_state(_BATCH) + inputs.random(state.shape)),
    }
    for name, given in others.items():
        expect(not torch.equal(built(*given), state), f"other {name} give the same")


def keeps_nothing_between_calls(network: Network) -> None:
    """A glimpse leaves nothing behind: what is seen next does not depend on it."""
    built, (patches, windows) = network.build(), network.glimpse()
    first = built(patches, windows, built.initial_state(_BATCH))
    built(*network.glimpse(seed=1), first)
    again = built(patches, windows, built.initial_state(_BATCH))
    expect_equal({"a state": again}, {"a state": first}, "after another glimpse")


def leaves_its_inputs(network: Network) -> None:
    """Patches, windows and state are left as they were."""
    built, given = network.build(), network.glimpse()
    state = built.initial_state(_BATCH).detach().clone()
    before = [one.clone() for one in (*given, state)]
    built(*given, state)
    for name, now, was in zip(
        ("patches", "windows", "state"), (*given, state), before, strict=True
    ):
        expect(torch.equal(now, was), f"the {name} are changed")


def trains_all_of_itself(network: Network) -> None:
    """Every parameter that asks for a gradient gets one, and so does the learned first state."""
    built = network.build().train()
    first = built.initial_state(_BATCH)
    expect(first.requires_grad, "the first state is not learned")
    expect_gradients(built, built(*network.glimpse(), first).sum())


def does_not_detach(network: Network) -> None:
    """It does not detach: gradient reaches the state that it is given."""
    built, (patches, windows) = network.build(), network.glimpse()
    state = built.initial_state(_BATCH).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(_mixed(built(patches, windows, state)), state)
    expect(bool(gradient.any()), "none arrives")


def ends_gradients_with_the_state(network: Network) -> None:
    """Where the state is detached, no gradient runs into the glimpse before."""
    built, (patches, windows) = network.build(), network.glimpse()
    earlier = patches.clone().requires_grad_()
    state = built(earlier, windows, built.initial_state(_BATCH)).detach()
    loss = _mixed(built(patches, windows, state))
    (gradient,) = torch.autograd.grad(loss, earlier, allow_unused=True)
    expect(gradient is None, "it reaches the patches of the glimpse before")


def looks_as_it_sees(network: Network) -> None:
    """look() is forward of what the scene reads, with several glimpses per image too."""
    if network.size("channels") != inputs.CHANNELS or network.size("patch_size") != inputs.PATCH:
        return
    built, scene = network.build(), inputs.scene()
    for glimpses in (1, 2):
        R = len(scene) * glimpses
        windows, state = inputs.windows(R, 5), built.initial_state(R)
        patches = scene.read(windows.reshape(len(scene), -1, 3))
        wanted = built(patches.reshape(R, 5, *patches.shape[2:]), windows, state)
        expect_close(built.look(scene, windows, state), wanted, "states of look and of forward")


def can_be_copied(network: Network) -> None:
    """A deep copy, such as a teacher begins as, sees the same."""
    built = network.build()
    expect_equal(network.outputs(copy.deepcopy(built)), network.outputs(built), "in the copy")


def spares_its_own_parameters(network: Network) -> None:
    """no_weight_decay() names parameters that it has."""
    built = network.build()
    unknown = set(built.no_weight_decay()) - {name for name, _ in built.named_parameters()}
    expect(not unknown, f"it has no {', '.join(sorted(unknown))}")


def lists_its_own_layers(network: Network) -> None:
    """layers() lists modules of its own, each once."""
    built = network.build()
    layers, own = [id(one) for one in built.layers()], {id(one) for one in built.modules()}
    expect(len(set(layers)) == len(layers), "one is listed twice")
    expect(set(layers) <= own, "one is not among its modules")


def can_be_exported(network: Network) -> None:
    """Where promised, the program of torch.export computes the same."""
    if not network.export:
        return
    built = network.build()
    given = (*network.glimpse(), built.initial_state(_BATCH).detach())
    with torch.no_grad():
        program = torch.export.export(built, given).module()
        expect_close(program(*given), built(*given), "states of the program and of the backbone")


def _mixed(state: Tensor) -> Tensor:
    """Weigh all numbers of a state differently: a mere sum after a norm has no gradient."""
    return (state * inputs.random(state.shape, 9)).sum()


RULES: tuple[Rule[Network], ...] = (
    *SETTINGS,
    says_its_sizes,
    has_a_first_state,
    gives_the_next_state,
    leaves_its_inputs,
    *MODULE,
    sees_each_image_for_itself,
    uses_all_that_it_is_given,
    keeps_nothing_between_calls,
    trains_all_of_itself,
    does_not_detach,
    ends_gradients_with_the_state,
    looks_as_it_sees,
    can_be_copied,
    spares_its_own_parameters,
    lists_its_own_layers,
    can_be_exported,
)
