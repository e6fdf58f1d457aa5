"""The order of images is a function of seed and step alone."""

import os
import time
from contextlib import closing

import numpy as np
import pytest
import torch

import fovea
from fovea.data.loader import Order, all_batches, train_batches
from fovea.data.workers import ReadingError
from fovea.decoding import BadImage
from fovea.extract.tiles import ArraySource
from fovea.interfaces import DataSet, Sample


class Numbered(DataSet):
    """Images of differing sizes that hold their own index and epoch; number 3 is bad."""

    classes = ()

    def __len__(self):
        return 10

    def name(self, index):
        return f"image {index}"

    def sample(self, index, epoch):
        if index == 3:
            raise BadImage("image 3 cannot be used: made so")
        image = np.full((4 + index, 4, 1), index, np.uint8)
        image[0] = epoch
        return Sample(image, index, (0.0, 0.0, 1.0, index / 10))


class Unopened(DataSet):
    """The same image as a file, as a source, and in memory."""

    classes = ("one", "two")

    def __init__(self, file):
        self.file = file
        self.image = np.load(file)

    def __len__(self):
        return 3

    def name(self, index):
        return f"image {index}"

    def sample(self, index, epoch):
        images = (self.file, ArraySource(self.image, name="the source"), self.image)
        return Sample(images[index], index - 1)


def order(start: int = 0, stop: int = 9, seed: int = 1) -> Order:
    return Order(images=10, batch_size=3, seed=seed, start=start, stop=stop)


def contents(batches):
    return [
        (b.names, b.labels.tolist(), b.boxes.tolist(), [i.tobytes() for i in b.images], b.bad)
        for b in batches
    ]


@pytest.mark.parametrize("start", range(10))
def test_beginning_later_is_skipping(start):
    assert list(order(start)) == list(order())[start:]
    assert len(order(start)) == 9 - start


def test_each_epoch_sees_each_image_at_most_once_in_an_order_of_its_own():
    batches = list(order())
    epochs = [[i for batch in batches[e * 3 : e * 3 + 3] for i, _, _ in batch] for e in range(3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)  # of 10; the incomplete batch is left out
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [{e for _, e, _ in batch} for batch in batches] == [{0}] * 3 + [{1}] * 3 + [{2}] * 3


def test_whole_batches_see_every_image_once_an_epoch():
    batches = list(Order(images=12, batch_size=4, seed=0, start=3, stop=6))
    assert sorted(i for batch in batches for i, _, _ in batch) == list(range(12))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_out_each_batch_whatever_their_number(world):
    shares = [
        list(Order(images=30, batch_size=8, seed=3, start=2, stop=9, rank=rank, world=world))
        for rank in range(world)
    ]
    joined = [[key for share in step for key in share] for step in zip(*shares, strict=True)]
    alone = list(Order(images=30, batch_size=8, seed=3, start=2, stop=9))
    assert joined == alone
    assert all([place for _, _, place in batch] == list(range(8)) for batch in alone)


def test_good_images_keep_their_place():
    batches = list(train_batches(Numbered(), order(), workers=0))
    incomplete = [batch for batch in batches if batch.bad]
    assert incomplete
    for batch in batches:
        assert len(batch.places) == len(batch.images)
        assert set(batch.places.tolist()) <= {0, 1, 2}


def test_seeds_give_other_orders():
    assert list(order(seed=1)) != list(order(seed=2))


def test_workers_change_nothing():
    alone = contents(train_batches(Numbered(), order(2, 6), workers=0))
    assert contents(train_batches(Numbered(), order(2, 6), workers=2)) == alone
    assert len(alone) == 4


class Dying(Numbered):
    """Ends its process a moment after it was asked for an image."""

    def sample(self, index, epoch):
        time.sleep(0.3)
        os._exit(3)


def test_a_worker_that_is_about_to_die_is_named_for_what_failed_because_of_it():
    reading = train_batches(Dying(), order(), workers=1)
    named = pytest.raises(ReadingError, match="data worker 0 of 1 of rank 0 exited with code 3")
    with closing(reading), named, reading.named():
        raise RuntimeError("its files are gone")


def test_an_error_that_no_worker_has_caused_stays_what_it_is():
    reading = train_batches(Numbered(), order(), workers=0)
    with pytest.raises(RuntimeError, match="out of memory"), reading.named():
        raise RuntimeError("out of memory")


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    list(train_batches(Numbered(), order(), workers=0))
    assert torch.equal(before, torch.get_rng_state())


def test_all_batches_read_each_image_once_in_order_and_name_the_bad():
    batches = list(all_batches(Numbered(), batch_size=4))
    assert [n for b in batches for n in b.names] == [f"image {i}" for i in range(10) if i != 3]
    assert [len(b.images) for b in batches] == [3, 4, 2]
    (bad,) = [one for b in batches for one in b.bad]
    assert bad.name == "image 3"
    assert "made so" in bad.reason
    assert batches[0].labels.tolist() == [0, 1, 2]
    assert batches[0].boxes.shape == (3, 4)


def test_a_batch_of_bad_images_alone_is_empty():
    data = Numbered()
    data.sample = lambda index, epoch: Numbered.sample(data, 3, epoch)
    batch = next(all_batches(data, 4))
    assert (batch.images, batch.names, batch.boxes, len(batch.bad)) == ([], [], None, 4)


@pytest.fixture
def unopened(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    return Unopened(tmp_path / "image.npy")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_not_in_memory_reaches_the_extractor(unopened, workers):
    pyramid = fovea.create("patch_extractor", "pyramid", patch_size=4)
    (batch,) = all_batches(unopened, 3, workers)
    scene = pyramid.prepare(batch.images)
    assert scene.sizes.tolist() == [[20, 30]] * 3
    file, source, array = scene.read(torch.tensor([[[0.4, 0.6, 1.0]]] * 3))
    assert torch.equal(file, array)
    assert torch.equal(source, array)
    assert len(pyramid.prepare(batch.labelled().images)) == 2


@pytest.mark.parametrize("extractor", ["integral", "resize"])
@pytest.mark.parametrize(
    ("index", "named"), [(0, "image.npy'"), (1, "the source is a ArraySource")]
)
def test_an_extractor_that_opens_nothing_says_what_would(unopened, extractor, index, named):
    reader = fovea.create("patch_extractor", extractor)
    with pytest.raises(
        ValueError, match=rf"images\[0\]: .*{named}.*choose an extractor that opens"
    ):
        reader.prepare([unopened.sample(index, 0).image])
