"""The order of images after a stop at any step, with any number of workers and processes."""

import numpy as np
import pytest

from fovea.data.loader import Batch, Order, train_batches
from fovea.decoding import BadImage
from fovea.interfaces import DataSet, Sample

IMAGES, BATCH, EPOCHS = 103, 4, 3  # 25 steps an epoch, 3 images left over
STEPS = IMAGES // BATCH * EPOCHS


class Noise(DataSet):
    """Images of noise of their own; one is bad, one is drawn anew each epoch."""

    classes = ()

    def __len__(self) -> int:
        return IMAGES

    def name(self, index: int) -> str:
        return f"image {index}"

    def sample(self, index: int, epoch: int) -> Sample:
        if index == 40:
            raise BadImage("made so")
        rng = np.random.default_rng([index, epoch if index == 7 else 0])
        return Sample(rng.integers(0, 256, (3, 4, 1), np.uint8), index)


def pixels(batch: Batch) -> list[tuple[int, str, bytes]]:
    rows = zip(batch.places.tolist(), batch.names, batch.images, strict=True)
    return [(place, name, image.tobytes()) for place, name, image in rows]


def order(start: int, stop: int = STEPS, rank: int = 0, world: int = 1) -> Order:
    return Order(IMAGES, BATCH, seed=5, start=start, stop=stop, rank=rank, world=world)


@pytest.fixture(scope="module")
def stream() -> list[list[tuple[int, str, bytes]]]:
    """Read three epochs without a stop."""
    return [pixels(batch) for batch in train_batches(Noise(), order(0), workers=0)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_after_a_stop_at_any_step_the_same_pixels_come(workers: int, stream: list[object]) -> None:
    for step in range(STEPS):
        stop = STEPS if workers == 0 else min(STEPS, step + workers + 2)
        batches = train_batches(Noise(), order(step, stop), workers)
        assert [pixels(batch) for batch in batches] == stream[step:stop]
        batches.close()


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_read_what_one_reads_alone(
    world: int, stream: list[list[tuple[int, str, bytes]]]
) -> None:
    shares = [list(train_batches(Noise(), order(0, rank=r, world=world), 0)) for r in range(world)]
    for step, expected in enumerate(stream):
        together = [row for share in shares for row in pixels(share[step])]
        assert together == expected


def test_pixels_of_one_epoch_differ_from_those_of_the_next(stream: list[object]) -> None:
    per_epoch = STEPS // EPOCHS
    assert stream[:per_epoch] != stream[per_epoch : 2 * per_epoch]
