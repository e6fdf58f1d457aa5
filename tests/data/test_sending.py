"""Laws of sending images from a worker: they arrive as they were, and nothing is left behind."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, IterableDataset

from fovea.data import sending
from fovea.data.sending import Parcel
from fovea.images import Array, Packed

SIZES = [(7, 5, 3), (1, 1, 3), (300, 200, 3), (0, 4, 3)]
linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


def images(number: int) -> list[Array]:
    generator = np.random.default_rng(number)
    return [generator.integers(0, 256, size, dtype=np.uint8) for size in SIZES]


class Parcels(IterableDataset[Parcel]):
    """Some parcels; the last one tells what files in memory its worker holds open."""

    def __init__(self, count: int, make: Callable[[int], list[Array]]):
        self.count, self.make = count, make

    def __iter__(self) -> Iterator[Parcel]:
        for number in range(self.count):
            yield Parcel(self.make(number))
        yield Parcel([np.array([[[len(files_in_memory())]]], np.uint8)])


def files_in_memory() -> list[str]:
    links = [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return [os.readlink(link) for link in links if "memfd:fovea" in os.readlink(link)]


def sent(count: int, make: Callable[[int], list[Array]] = images) -> list[Packed | list[Array]]:
    return list(DataLoader(Parcels(count, make), batch_size=None, num_workers=1))


@linux
def test_images_arrive_as_they_were_and_memory_is_given_back() -> None:
    *arrived, last = sent(20)
    (held,) = last
    assert 1 < held.item() <= sending._KEPT
    for number, found in enumerate(arrived):
        assert isinstance(found, Packed)
        for one, image in zip(found, images(number), strict=True):
            np.testing.assert_array_equal(one, image)
            assert one.flags.writeable  # as torch wants them
    assert not files_in_memory()
    assert "memfd:fovea" in Path("/proc/self/maps").read_text()
    del arrived, last, held, found, one
    assert "memfd:fovea" not in Path("/proc/self/maps").read_text()


@linux
@pytest.mark.parametrize("sizes", [[(0, 4, 3)], [(2, 2, 3), (2, 2, 1)], []])
def test_what_cannot_be_mapped_or_packed_arrives_too(sizes: list[tuple[int, ...]]) -> None:
    def make(number: int) -> list[Array]:
        return [np.full(size, number, np.uint8) for size in sizes]

    for number, found in enumerate(sent(3, make)[:-1]):
        assert [one.shape for one in found] == sizes
        assert all((one == number).all() for one in found)


def test_without_a_worker_images_are_sent_by_value() -> None:
    for one, image in zip(pickle.loads(pickle.dumps(Parcel(images(0)))), images(0), strict=True):
        np.testing.assert_array_equal(one, image)


def test_where_memory_cannot_be_shared_images_are_sent_by_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "_can_share", lambda: False)  # the worker is forked
    for number, found in enumerate(sent(3)[:-1]):
        for one, image in zip(found, images(number), strict=True):
            np.testing.assert_array_equal(one, image)
