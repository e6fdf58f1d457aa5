"""What a forward pass of a stage takes of its device's memory, counted tensor by tensor.

Every tensor that an operation makes is counted until its memory is given back, so what is counted
is what autograd keeps, whatever the backbone and the objective do. It needs no GPU: on a CPU the
same pass takes the same bytes. What an operation uses only within itself is not seen.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fovea.engine.seeding import step_generator
from fovea.images import Array, Unopened
from fovea.interfaces import PatchExtractor
from fovea.stages.stage import Stage

_HALFWAY = 0.5  # of training: nothing is frozen any more


@dataclass(frozen=True)
class Usage:
    """Bytes beside the weights.

    Attributes:
        kept: until the backward pass: the scene, activations, weights in another precision.
        most: at any moment until the last block has run. What head and loss make for a moment does
            not count: they go by chunks where a batch is large.
        call: kept by the largest call of a backbone.
        block: kept by the largest call of one of its blocks; of itself, where it names none.
    """

    kept: float
    most: float
    call: float
    block: float

    def towards(self, other: "Usage", share: float) -> "Usage":
        """Go a share of the way to another, or beyond it: all that is counted is linear."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Usage(*(one + (two - one) * share for one, two in pairs))


def usage_at(
    stage: Stage,
    extractor: PatchExtractor,
    images: list[Array | Unopened],
    batch: int,
    reduced: bool,
) -> Usage:
    """Tell what a batch takes from a few images, and from each of them twice.

    The stage and the global random state are others afterwards: measure a copy.

    Args:
        stage: on its device.
        extractor: prepares the images.
        images: two or more; a batch has images of their sizes.
        batch: number of images to tell it of.
        reduced: whether networks compute in bfloat16.
    """
    few = _usage(stage, extractor, images, reduced)
    more = _usage(stage, extractor, [*images, *images], reduced)
    return few.towards(more, batch / len(images) - 1)


def _usage(
    stage: Stage, extractor: PatchExtractor, images: list[Array | Unopened], reduced: bool
) -> Usage:
    device = next(stage.parameters()).device
    stage.train()
    places, labels = torch.arange(len(images)), torch.zeros(len(images), dtype=torch.int64)
    generator = step_generator(0, "memory", 0, device, places, len(images))
    labels = labels.to(device)
    backbones = stage.backbones()
    blocks = [block for backbone in backbones for block in backbone.layers()] or backbones
    live = Live(device, [*stage.parameters(), *stage.buffers()])
    with live, _calls(backbones, live) as of_backbones, _calls(blocks, live) as of_blocks:
        scene = extractor.prepare(images, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            loss = stage(scene, labels, _HALFWAY, generator)
        kept = live.bytes  # while loss and scene are here
    del loss, scene
    call, block = (
        max((one.grown for one in calls), default=0) for calls in (of_backbones, of_blocks)
    )
    return Usage(kept, of_blocks[-1].most if of_blocks else live.most, call, block)


@dataclass(frozen=True)
class _Call:
    """A call of a module: the bytes that it left behind, and the most that there had been."""

    grown: int
    most: int


class Live(TorchDispatchMode):
    """Counts the tensors that are made within it: those that are there, and the most ever.

    Args:
        device: whose memory counts.
        known: tensors that were there before; views of them are not new.
    """

    def __init__(self, device: torch.device, known: Iterable[Tensor] = ()):
        super().__init__()  # type: ignore[no-untyped-call]  # torch's class
        self.device = device
        self.bytes = self.most = 0
        self._known = [one.untyped_storage() for one in known]  # else their ids are free for others
        self._ids = {id(one) for one in self._known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it makes."""
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if torch.is_tensor(one) and one.device == self.device:
                self._count(one.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._ids:
            return
        self._ids.add(id(storage))
        self.bytes += storage.nbytes()
        self.most = max(self.most, self.bytes)
        weakref.finalize(storage, self._forget, id(storage), storage.nbytes()).atexit = False

    def _forget(self, name: int, size: int) -> None:
        self._ids.discard(name)
        self.bytes -= size


@contextmanager
def _calls(modules: Iterable[nn.Module], live: Live) -> Iterator[list[_Call]]:
    """List the calls of some modules within this block."""
    calls: list[_Call] = []
    before: list[int] = []

    def end(*_: object) -> None:
        calls.append(_Call(live.bytes - before.pop(), live.most))

    with ExitStack() as stack:
        for module in modules:
            begin = module.register_forward_pre_hook(lambda *_: before.append(live.bytes))
            stack.callback(begin.remove)
            stack.callback(module.register_forward_hook(end).remove)
        yield calls
