"""Laws of batches on their way: their order, where errors come up, and what counts as waiting."""

import numpy as np
import pytest
import torch

from fovea.data.loader import Batch, Order, train_batches
from fovea.data.workers import ReadingError
from fovea.engine.transfer import Feed, HostTransfer, Sent, transfer_to
from fovea.images import Packed
from fovea.interfaces import DataSet, Sample

CPU = torch.device("cpu")


class Noise(DataSet):
    """Images of noise; every third has no label, and one may do harm."""

    classes = ("even", "odd")

    def __init__(self, faulty: int | None = None):
        self.faulty = faulty

    def __len__(self) -> int:
        return 20

    def name(self, index: int) -> str:
        return f"image {index}"

    def sample(self, index: int, epoch: int) -> Sample:
        if index == self.faulty:
            raise KeyError("label")
        rng = np.random.default_rng([index, epoch])
        image = rng.integers(0, 256, (4, 3 + index % 4, 3), np.uint8)
        return Sample(image, index % 2 if index % 3 else -1)


def order(start: int = 0, stop: int = 12) -> Order:
    return Order(images=20, batch_size=4, seed=2, start=start, stop=stop)


def feed(start: int, ahead: bool, workers: int = 0, **options: object) -> Feed[float]:
    batches = train_batches(Noise(), order(start), workers)
    return Feed(batches, HostTransfer(CPU), len(order(start)), ahead, **options)


def contents(sent: Sent[float]) -> list[tuple[int, int, str, bytes]]:
    rows = zip(
        sent.places.tolist(), sent.labels.tolist(), sent.batch.names, sent.images, strict=True
    )
    return [(place, label, name, image.tobytes()) for place, label, name, image in rows]


def taken(from_feed: Feed[float], count: int) -> list[list[tuple[int, int, str, bytes]]]:
    """Take batches as the trainer does: the next is fetched while one is used."""
    found = []
    for _ in range(count):
        sent = next(from_feed)
        from_feed.fetch()
        found.append(contents(sent))
    from_feed.close()
    return found


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("needs_labels", [True, False])
@pytest.mark.parametrize("start", [0, 5, 11])
def test_batches_that_are_fetched_ahead_come_in_the_same_order(start, needs_labels, workers):
    plain = taken(feed(start, ahead=False, needs_labels=needs_labels), 12 - start)
    ahead = taken(feed(start, ahead=True, workers=workers, needs_labels=needs_labels), 12 - start)
    assert ahead == plain
    assert any(label < 0 for batch in plain for _, label, _, _ in batch) != needs_labels


def test_one_batch_is_fetched_and_none_beyond_the_last():
    read = []

    class Counted(Noise):
        def sample(self, index, epoch):
            read.append(index)
            return super().sample(index, epoch)

    batches = Feed(train_batches(Counted(), order(), 0), HostTransfer(CPU), 12, ahead=True)
    for number in range(1, 13):
        next(batches)
        batches.fetch()
        assert len(read) == 4 * min(number + 1, 12)
        assert (batches.fetched is None) == (number == 12)


def test_without_reading_ahead_nothing_is_read_before_it_is_asked_for():
    batches = feed(0, ahead=False)
    batches.fetch()
    assert batches.left == 12
    assert batches.waited() == 0


def test_what_goes_wrong_ahead_is_raised_when_the_batch_is_asked_for():
    keys = list(order())
    faulty = keys[3][2][0]
    first = next(
        number for number, batch in enumerate(keys) if faulty in [one for one, *_ in batch]
    )
    batches = Feed(train_batches(Noise(faulty), order(), 0), HostTransfer(CPU), 12, ahead=True)
    for _ in range(first):
        next(batches)
        batches.fetch()
    with pytest.raises(ReadingError, match=f"rank 0 cannot read image number {faulty}: KeyError"):
        next(batches)


class Timed(HostTransfer):
    """A device that computes for some seconds what is queued, and a clock that is set by hand."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.now = self.done = 0.0

    def compute(self, seconds: float) -> None:
        self.done = max(self.done, self.now) + seconds

    def send(self, batch: Batch) -> Sent[float]:
        return Sent(batch, batch.images, batch.labels, batch.places, self.now)

    def mark(self) -> float:
        return max(self.done, self.now)


@pytest.mark.parametrize(("reading", "waited"), [(2.0, 0.0), (5.0, 0.0), (7.0, 2.0)])
def test_the_device_waits_only_when_it_has_nothing_left_to_compute(reading, waited):
    device = Timed()

    class Slow(Noise):
        def sample(self, index, epoch):
            device.now += reading / 4
            return super().sample(index, epoch)

    batches = Feed(train_batches(Slow(), order(), 0), device, 12, ahead=True)
    next(batches)
    assert batches.waited() == 0  # the host has waited, and counts that itself
    for _ in range(11):
        device.compute(5)
        batches.fetch()
        device.now = device.mark()
        next(batches)
        assert batches.waited() == pytest.approx(waited)


@pytest.mark.gpu
def test_a_gpu_gets_the_pixels_labels_and_places_without_the_host_waiting():
    device = torch.device("cuda", 0)
    batches = list(train_batches(Noise(), order(), 0))
    plain = [contents(HostTransfer(CPU).send(batch)) for batch in batches]
    transfer = transfer_to(device, with_images=True)
    found = []
    transfer.send(batches[0])  # pinned memory is there from now on
    torch.cuda.set_sync_debug_mode("error")
    for batch in batches:
        sent = transfer.send(batch)
        transfer.receive(sent)
        found.append((sent.places + 0, sent.labels + 0, sent.images.pixels + 0, sent))
    torch.cuda.set_sync_debug_mode("default")
    for (places, labels, pixels, sent), expected in zip(found, plain, strict=True):
        assert pixels.device == labels.device == places.device == device
        images = Packed(pixels.cpu(), sent.images.shapes)
        rows = zip(places.tolist(), labels.tolist(), sent.batch.names, images, strict=True)
        assert [(*row, image.tobytes()) for *row, image in rows] == expected
