"""Rules of components that are networks: weights, modes, precision and devices."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fovea.testing.randomness import drawn_from, seeded
from fovea.testing.rules import Broken, Rule, Subject, expect
from fovea.testing.second_device import second_device

Outputs = Mapping[str, Tensor]


class ModuleSubject(Subject):
    """A network under test."""

    @abstractmethod
    def outputs(self, module: Any, device: str = "cpu") -> Outputs:
        """Compute what it is for, always of the same inputs."""

    def build(self, seed: int = 0, **sizes: Any) -> Any:
        """Build it, in evaluation mode."""
        return super().build(seed, **sizes).eval()


def can_be_built_again(subject: ModuleSubject) -> None:
    """Built twice from one seed of torch, it has the same weights."""
    first, second = (subject.build(3).state_dict() for _ in range(2))
    for name, weight in first.items():
        expect(torch.equal(weight, second[name]), f"{name} differs")


def repeats_itself(subject: ModuleSubject) -> None:
    """In evaluation mode it draws from no global generator, and gives one output for one input."""
    module = subject.build()
    first = subject.outputs(module)
    drawn = drawn_from(lambda: subject.outputs(module))
    expect(not drawn, f"it draws from that of {', '.join(drawn)}")
    with seeded(1):
        expect_equal(subject.outputs(module), first, "between two calls")


def keeps_all_in_its_state_dict(subject: ModuleSubject) -> None:
    """Its state dict, loaded into a new one of other weights, gives the same outputs."""
    module, other = subject.build(1), subject.build(2)
    other.load_state_dict(copy.deepcopy(module.state_dict()))
    expect_equal(subject.outputs(other), subject.outputs(module), "after loading")


def survives_bfloat16(subject: ModuleSubject) -> None:
    """Under autocast to bfloat16 its outputs are finite, of the same shapes."""
    module = subject.build()
    plain = subject.outputs(module)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = subject.outputs(module)
    for name, value in reduced.items():
        expect(bool(value.isfinite().all()), f"{name} is not finite")
        shape = list(plain[name].shape)
        expect(list(value.shape) == shape, f"{name} becomes {list(value.shape)}, not {shape}")


def works_on_a_device(subject: ModuleSubject) -> None:
    """On a GPU, or the kit's stand-in for one, outputs are where the inputs are."""
    module = subject.build()
    with second_device() as device:
        for name, value in subject.outputs(module.to(device), device.type).items():
            expect(value.device == device, f"{name} is on {value.device}")


def expect_equal(found: Outputs, wanted: Outputs, where: str) -> None:
    """Expect outputs to be equal to the bit."""
    for name, value in wanted.items():
        if not torch.equal(found[name], value):
            off = (found[name] - value).abs().max().item()
            raise Broken(f"{name} differs by up to {off:.2g} {where}")


def expect_close(found: Tensor, wanted: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Expect numbers to be equal but for rounding."""
    expect(found.shape == wanted.shape, f"{what}: {list(found.shape)}, not {list(wanted.shape)}")
    off = (found.double() - wanted.double()).abs().max().item() if found.numel() else 0.0
    expect(off <= tolerance, f"{what} differ by up to {off:.2g}")


def expect_gradients(module: nn.Module, loss: Tensor) -> None:
    """Expect a gradient, if only of zeros, at each parameter that asks for one."""
    asked = {name: one for name, one in module.named_parameters() if one.requires_grad}
    if not asked:
        return
    expect(loss.requires_grad, "the output carries none")
    module.zero_grad()
    loss.backward()
    without = [name for name, one in asked.items() if one.grad is None]
    expect(not without, f"{', '.join(without[:3])} ({len(without)} of {len(asked)}) gets none")


RULES: tuple[Rule[ModuleSubject], ...] = (
    can_be_built_again,
    repeats_itself,
    keeps_all_in_its_state_dict,
    survives_bfloat16,
    works_on_a_device,
)
