"""Batches: which images make up each optimiser step, and reading them.

The order is a pure function of (seed, step), so that a resumed run needs nothing but its step
number to go on with exactly the batches that it would have seen. Processes that train together
share out each batch; without regard to their number, it is the same.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.sending import Parcel
from fovea.data.workers import Failure, Reading
from fovea.decoding import BadImage
from fovea.images import Array, Unopened
from fovea.interfaces import DataSet, Sample

Key = tuple[int, int, int]
"""An image to read: its index, the epoch, and its place in the batch of all processes."""


@dataclass(frozen=True)
class BadFile:
    """An image that could not be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Images that are read together.

    Attributes:
        images: uint8 [H, W, C] each, sizes may differ, ``Packed`` where a worker has read them; or
            a list, in which there may be what the extractor opens itself.
        labels: int64 [B]; -1 where unknown.
        boxes: float32 [B, 4], (x0, y0, x1, y1) of the object in 0..1, or None where unknown.
        names: what a message calls each image.
        places: int64 [B], where each image stands in the batch of all processes.
        bad: images that should have been here and could not be read.
    """

    images: Sequence[Array | Unopened]
    labels: Tensor
    boxes: Tensor | None
    names: list[str]
    places: Tensor
    bad: list[BadFile]

    def labelled(self) -> "Batch":
        """Leave out images without a label."""
        known = (self.labels >= 0).nonzero()[:, 0]
        if len(known) == len(self.labels):
            return self
        return replace(
            self,
            images=[self.images[i] for i in known],
            labels=self.labels[known],
            boxes=None if self.boxes is None else self.boxes[known],
            names=[self.names[i] for i in known],
            places=self.places[known],
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Send images in shared memory, and tensors as arrays: a thread would serve those."""
        arrays = (None if one is None else one.numpy() for one in (self.labels, self.boxes))
        return _unsent, (Parcel(self.images), *arrays, self.names, self.places.numpy(), self.bad)


@dataclass(frozen=True)
class Order:
    """Which images each step sees, shuffled anew each epoch.

    Attributes:
        images: number of images in the data set.
        batch_size: images per step; an incomplete last batch of an epoch is left out.
        seed: of the shuffling.
        start: first step.
        stop: step after the last.
        rank: number of this process, which reads its share of each batch.
        world: number of processes; divides ``batch_size``.
    """

    images: int
    batch_size: int
    seed: int
    start: int
    stop: int
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this process's share of the batches of steps start..stop."""
        share = self.batch_size // self.world
        places = range(self.rank * share, (self.rank + 1) * share)
        per_epoch = self.images // self.batch_size
        shuffled: tuple[int, list[int]] = (-1, [])
        for step in range(self.start, self.stop):
            epoch, position = divmod(step, per_epoch)
            if shuffled[0] != epoch:
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                shuffled = epoch, torch.randperm(self.images, generator=generator).tolist()
            first = position * self.batch_size
            yield [(shuffled[1][first + place], epoch, place) for place in places]

    def __len__(self) -> int:
        return self.stop - self.start


def train_batches(
    data: DataSet, order: Order, workers: int, timeout: float = 600
) -> Reading[Batch]:
    """Read the batches of a training run, in order, with ``workers`` processes (0: none).

    Each batch must be there after ``timeout`` seconds, if there are workers.
    """
    return Reading(_loader(data, order, workers, timeout))


def all_batches(data: DataSet, batch_size: int, workers: int = 0) -> Reading[Batch]:
    """Read each image once, in the data set's order."""
    indices = range(len(data))
    chunks = [
        [(index, 0, place) for place, index in enumerate(indices[start : start + batch_size])]
        for start in range(0, len(data), batch_size)
    ]
    return Reading(_loader(data, chunks, workers))


def _loader(
    data: DataSet, batches: Order | list[list[Key]], workers: int, timeout: float = 600
) -> "DataLoader[_Read | BadFile | Failure]":
    return DataLoader(
        _Readable(data),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator().manual_seed(0),  # else iter() draws from the global one
        timeout=timeout if workers else 0,
    )


_Read = tuple[str, int, Sample]  # name, place in the batch, image


class _Readable(Dataset[_Read | BadFile | Failure]):
    """A data set as torch wants it; what went wrong is a result, since workers lose exceptions."""

    def __init__(self, data: DataSet):
        self.data = data

    def __getitem__(self, key: Key) -> _Read | BadFile | Failure:
        index, epoch, place = key
        try:
            return self.data.name(index), place, self.data.sample(index, epoch)
        except BadImage as error:
            return BadFile(self.data.name(index), str(error))
        except Exception as error:  # raised again where it can be reported
            return Failure.of(error, f"image number {index}")


def _collate(read: list[_Read | BadFile | Failure]) -> Batch | Failure:
    for one in read:
        if isinstance(one, Failure):
            return one
    named = [one for one in read if isinstance(one, tuple)]
    good = [sample for _, _, sample in named]
    boxes = [sample.box for sample in good if sample.box is not None]
    return Batch(
        images=[sample.image for sample in good],
        labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
        boxes=torch.tensor(boxes) if good and len(boxes) == len(good) else None,
        names=[name for name, _, _ in named],
        places=torch.tensor([place for _, place, _ in named], dtype=torch.int64),
        bad=[one for one in read if isinstance(one, BadFile)],
    )


def _unsent(
    images: Sequence[Array | Unopened],
    labels: Array,
    boxes: Array | None,
    names: list[str],
    places: Array,
    bad: list[BadFile],
) -> Batch:
    found = None if boxes is None else torch.from_numpy(boxes)
    return Batch(images, torch.from_numpy(labels), found, names, torch.from_numpy(places), bad)


def _ignore_signals(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM to the main process, which finishes its step first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
