"""What a forward pass of a stage takes of its device's memory, counted tensor by tensor.

Every tensor that an operation makes is counted until its memory is given back, so what is counted
is what autograd keeps, whatever the backbone and the objective do. It needs no GPU: on a CPU the
same pass takes the same bytes. What an operation uses only within itself is not seen.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fovea.engine.seeding import step_generator
from fovea.images import Array, Packed, Unopened, packable
from fovea.interfaces import PatchExtractor
from fovea.stages.stage import Stage

_HALFWAY = 0.5  # of training: nothing is frozen any more


@dataclass(frozen=True)
class Usage:
    """Bytes beside the weights.

    Attributes:
        kept: until the backward pass: the scene, activations, weights in another precision.
        call: kept by the largest call of a backbone.
        block: kept by the largest call of one of its blocks; of itself, where it names none.
        peaks: the most at any moment, from the end of each call of a block to the end of the next.
            What head and loss make after the last does not count: they go by chunks where a batch
            is large.
    """

    kept: float
    call: float
    block: float
    peaks: tuple[float, ...]

    @property
    def most(self) -> float:
        """The highest peak."""
        return max(self.peaks)

    def towards(self, other: "Usage", share: float) -> "Usage":
        """Go a share of the way to another, or beyond it: all that is counted is linear.

        The highest peak is not, since in a large batch it may lie elsewhere: hence all of them.
        """

        def between(one: float, two: float) -> float:
            return one + (two - one) * share

        alike = len(self.peaks) == len(other.peaks)
        pairs = zip(self.peaks, other.peaks, strict=True) if alike else [(self.most, other.most)]
        return Usage(
            between(self.kept, other.kept),
            between(self.call, other.call),
            between(self.block, other.block),
            tuple(between(*pair) for pair in pairs),
        )


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
    with live, ExitStack() as stack:
        calls = stack.enter_context(_growth(backbones, live))
        parts = stack.enter_context(_growth(blocks, live))
        peaks = stack.enter_context(_peaks(blocks, live))
        sent = _sent(images, extractor, device)
        scene = extractor.prepare(sent[0], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            loss = stage(scene, labels, _HALFWAY, generator)
        kept = live.bytes  # while loss and scene are here
    del loss, scene, sent
    sizes = kept, max(calls, default=0), max(parts, default=0)
    return Usage(*sizes, tuple(peaks) or (live.most,))


def _sent(
    images: list[Array | Unopened], extractor: PatchExtractor, device: torch.device
) -> list[Any]:
    """Send a batch as training does, and the next one, which arrives during the step."""
    if not (extractor.takes_packed_on_device and packable(images)):
        return [images]
    packed = Packed.of(images)
    return [packed.to(device), Packed(packed.pixels.clone().to(device), packed.shapes)]


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
def _growth(modules: Iterable[nn.Module], live: Live) -> Iterator[list[int]]:
    """List the bytes that each call of some modules leaves behind, within this block."""
    grown: list[int] = []
    before: list[int] = []
    with ExitStack() as stack:
        for module in modules:
            begin = module.register_forward_pre_hook(lambda *_: before.append(live.bytes))
            end = module.register_forward_hook(lambda *_: grown.append(live.bytes - before.pop()))
            stack.callback(begin.remove)
            stack.callback(end.remove)
        yield grown


@contextmanager
def _peaks(modules: Iterable[nn.Module], live: Live) -> Iterator[list[int]]:
    """List the most that there was up to the end of each call, since the one before."""
    peaks: list[int] = []

    def end(*_: object) -> None:
        peaks.append(live.most)
        live.most = live.bytes

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(end).remove)
        yield peaks
