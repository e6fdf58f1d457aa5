"""Batches: which images make up each optimiser step, and reading them.

The order is a pure function of (seed, step), so that a resumed run needs nothing but its step
number to go on with exactly the batches that it would have seen.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.images import Array, BadImage
from fovea.interfaces import DataSet, Sample


@dataclass(frozen=True)
class BadFile:
    """An image that could not be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Images that are read together.

    Attributes:
        images: uint8 [H, W, C] each, sizes may differ.
        labels: int64 [B]; -1 where unknown.
        boxes: float32 [B, 4], (x0, y0, x1, y1) of the object in 0..1, or None where unknown.
        names: what a message calls each image.
        bad: images that should have been here and could not be read.
    """

    images: list[Array]
    labels: Tensor
    boxes: Tensor | None
    names: list[str]
    bad: list[BadFile]


@dataclass(frozen=True)
class Order:
    """Which images each step sees: (index, epoch) pairs, shuffled anew each epoch.

    Attributes:
        images: number of images in the data set.
        batch_size: images per step; an incomplete last batch of an epoch is left out.
        seed: of the shuffling.
        start: first step.
        stop: step after the last.
    """

    images: int
    batch_size: int
    seed: int
    start: int
    stop: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield the batches of steps start..stop."""
        per_epoch = self.images // self.batch_size
        shuffled: tuple[int, list[int]] = (-1, [])
        for step in range(self.start, self.stop):
            epoch, position = divmod(step, per_epoch)
            if shuffled[0] != epoch:
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                shuffled = epoch, torch.randperm(self.images, generator=generator).tolist()
            first = position * self.batch_size
            yield [(index, epoch) for index in shuffled[1][first : first + self.batch_size]]

    def __len__(self) -> int:
        return self.stop - self.start


def train_batches(data: DataSet, order: Order, workers: int) -> Iterator[Batch]:
    """Read the batches of a training run, in order, with ``workers`` processes (0: none)."""
    return iter(_loader(data, order, workers))


def all_batches(data: DataSet, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Read each image once, in the data set's order."""
    indices = range(len(data))
    chunks = [
        [(index, 0) for index in indices[start : start + batch_size]]
        for start in range(0, len(data), batch_size)
    ]
    return iter(_loader(data, chunks, workers))


def _loader(
    data: DataSet, batches: Order | list[list[tuple[int, int]]], workers: int
) -> "DataLoader[tuple[str, Sample] | BadFile]":
    return DataLoader(
        _Readable(data),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator().manual_seed(0),  # else iter() draws from the global one
        timeout=600 if workers else 0,
    )


class _Readable(Dataset[tuple[str, Sample] | BadFile]):
    """A data set as torch wants it; a bad image is a result, since workers lose exceptions."""

    def __init__(self, data: DataSet):
        self.data = data

    def __getitem__(self, key: tuple[int, int]) -> tuple[str, Sample] | BadFile:
        try:
            return self.data.name(key[0]), self.data.sample(*key)
        except BadImage as error:
            return BadFile(self.data.name(key[0]), str(error))


def _collate(read: list[tuple[str, Sample] | BadFile]) -> Batch:
    named = [one for one in read if not isinstance(one, BadFile)]
    good = [sample for _, sample in named]
    boxes = [sample.box for sample in good if sample.box is not None]
    return Batch(
        images=[sample.image for sample in good],
        labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
        boxes=torch.tensor(boxes) if good and len(boxes) == len(good) else None,
        names=[name for name, _ in named],
        bad=[one for one in read if isinstance(one, BadFile)],
    )


def _ignore_signals(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM to the main process, which finishes its step first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
