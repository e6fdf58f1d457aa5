"""Batches on their way to the device: read and copied while it computes the step before.

A CUDA device computes what the host has queued, some time later. So, once a step is queued, the
host reads the next batch and queues its copy beside the computation, and only then waits for the
numbers of the step. A CPU computes at once, and reads a batch when it is asked for.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from fovea.data.loader import Batch
from fovea.data.workers import Reading
from fovea.images import Array, Packed, Unopened, packable

M = TypeVar("M")


@dataclass(frozen=True)
class Sent(Generic[M]):
    """A batch where it is used.

    Attributes:
        batch: as it was read, on the host.
        images: those of the batch, ``Packed`` on the device where the extractor takes them there.
        labels: int64 [B], on the device.
        places: int64 [B], on the device.
        arrived: marks the moment at which all of it is there.
    """

    batch: Batch
    images: Sequence[Array | Unopened]
    labels: Tensor
    places: Tensor
    arrived: M


class Transfer(Protocol[M]):
    """Copies batches to a device, and marks moments of what the device does."""

    def send(self, batch: Batch) -> Sent[M]:
        """Begin to copy a batch."""

    def receive(self, sent: Sent[M]) -> None:
        """Have what is queued from now on run after the copy."""

    def mark(self) -> M:
        """Mark the moment at which all is computed that was queued so far."""

    def wait(self, moment: M) -> None:
        """Have the host wait for a moment."""

    def seconds(self, start: M, end: M) -> float:
        """Tell the time between two moments, after both; negative where ``end`` came first."""


class HostTransfer:
    """Copies at once; a moment is the time of day, since nothing is computed later."""

    def __init__(self, device: torch.device):
        self.device = device

    def send(self, batch: Batch) -> Sent[float]:
        """Copy labels and places; the extractor does so with the images."""
        labels, places = batch.labels.to(self.device), batch.places.to(self.device)
        return Sent(batch, batch.images, labels, places, self.mark())

    def receive(self, sent: Sent[float]) -> None:
        """Do nothing: it is there."""

    def mark(self) -> float:
        """Read the clock."""
        return time.monotonic()

    def wait(self, moment: float) -> None:
        """Do nothing: it has passed."""

    def seconds(self, start: float, end: float) -> float:
        """Subtract."""
        return end - start


class CudaTransfer:
    """Copies on a stream of its own, from pinned memory, which torch's allocator uses again.

    Args:
        device: CUDA.
        with_images: whether the extractor takes packed images on the device.
    """

    def __init__(self, device: torch.device, with_images: bool):
        self.device, self.with_images = device, with_images
        self.stream = torch.cuda.Stream(device)

    def send(self, batch: Batch) -> Sent[torch.cuda.Event]:
        """Queue the copies; pageable memory would have the host wait for them."""
        images, pixels = batch.images, []
        if self.with_images and packable(images):
            packed = images if isinstance(images, Packed) else Packed.of(images)
            pixels = [packed.pixels]
        pinned = [one.pin_memory() for one in (batch.labels, batch.places, *pixels)]
        with torch.cuda.stream(self.stream):
            copied = [one.to(self.device, non_blocking=True) for one in pinned]
        labels, places, *pixels = copied
        if pixels:
            images = Packed(pixels[0], packed.shapes)
        return Sent(batch, images, labels, places, _recorded(self.stream))

    def receive(self, sent: Sent[torch.cuda.Event]) -> None:
        """Have the current stream wait, and the memory stay until it has been read there."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(sent.arrived)
        pixels = [sent.images.pixels] if isinstance(sent.images, Packed) else []
        for one in (sent.labels, sent.places, *pixels):
            one.record_stream(stream)

    def mark(self) -> torch.cuda.Event:
        """Queue an event on the current stream."""
        return _recorded(torch.cuda.current_stream(self.device))

    def wait(self, moment: torch.cuda.Event) -> None:
        """Wait for the event, whatever is queued behind it."""
        moment.synchronize()

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Wait for both events, and subtract."""
        for moment in (start, end):
            if not moment.query():
                moment.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1000


class Feed(Iterator[Sent[M]], Generic[M]):
    """The batches of a training run, in their order, on the device.

    Args:
        batches: as they are read.
        transfer: copies them.
        count: how many there are; beyond, none is read.
        ahead: whether ``fetch`` reads one while the device computes.
        needs_labels: whether images without a label are left out.
    """

    def __init__(
        self,
        batches: Reading[Batch],
        transfer: Transfer[M],
        count: int,
        ahead: bool,
        needs_labels: bool = False,
    ):
        self.batches, self.transfer, self.ahead = batches, transfer, ahead
        self.left, self.needs_labels = count, needs_labels
        self.fetched: Sent[M] | Exception | None = None
        self.computed: M | None = None  # all that was queued before a batch was fetched
        self.idle: tuple[M, M] | None = None  # from then until the batch arrived

    def __next__(self) -> Sent[M]:
        """Return the next batch, which is read now unless it was fetched.

        Raises:
            ReadingError: it cannot be read.
        """
        fetched, self.fetched = self.fetched, None
        if isinstance(fetched, Exception):
            raise fetched
        if fetched is None:
            return self._read()
        assert self.computed is not None
        self.idle = self.computed, fetched.arrived
        return fetched

    def fetch(self) -> None:
        """Read the next batch and begin to copy it, after a step was queued.

        What goes wrong is raised where the batch is asked for: the step before must end as ever.
        """
        if not (self.ahead and self.left):
            return
        self.computed = self.transfer.mark()
        try:
            self.fetched = self._read()
        except Exception as error:
            self.fetched = error

    def waited(self) -> float:
        """Return the seconds that the device had nothing to do before the latest batch arrived.

        Zero for a batch that was not fetched, for which the host has waited. Asked when a step is
        done, it waits for nothing: the device has come by both moments.
        """
        idle, self.idle = self.idle, None
        return 0.0 if idle is None else max(0.0, self.transfer.seconds(*idle))

    def close(self) -> None:
        """Stop reading."""
        self.batches.close()

    def _read(self) -> Sent[M]:
        self.left -= 1
        batch = next(self.batches)
        return self.transfer.send(batch.labelled() if self.needs_labels else batch)


def transfer_to(device: torch.device, with_images: bool) -> Transfer[Any]:
    """Return what copies to a device; ``with_images`` as for ``CudaTransfer``."""
    if device.type == "cuda":
        return CudaTransfer(device, with_images)
    return HostTransfer(device)


def _recorded(stream: torch.cuda.Stream) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(stream)
    return event
