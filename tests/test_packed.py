"""Laws of packed images: one buffer, and still a sequence of arrays."""

import numpy as np
import pytest
import torch

from fovea import create
from fovea.images import Packed, as_images

IMAGES = [np.random.default_rng(i).integers(0, 256, (7 + i, 12 - i, 3), np.uint8) for i in range(4)]


def test_packed_images_are_the_images() -> None:
    packed = Packed.of(IMAGES)
    assert len(packed) == len(IMAGES)
    for one, other in zip(packed, IMAGES, strict=True):
        assert np.array_equal(one, other)
    assert [one.shape for one in packed[1:3]] == [one.shape for one in IMAGES[1:3]]


def test_packed_images_share_their_buffer() -> None:
    packed = Packed.of(IMAGES)
    packed.pixels.zero_()
    assert not any(one.any() for one in packed)
    assert all(not one.any() for one in as_images(packed))


def test_extractors_take_packed_images() -> None:
    windows = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    for name in ("integral", "resize", "pyramid"):
        extractor = create("patch_extractor", name, patch_size=4)
        found = extractor.prepare(Packed.of(IMAGES)).read(windows)
        assert torch.equal(found, extractor.prepare(IMAGES).read(windows)), name


def test_grey_packed_images_are_repeated_where_colour_is_asked_for() -> None:
    grey = Packed.of([image[..., :1] for image in IMAGES])
    assert [tuple(one.shape) for one in as_images(grey, 3)] == [one.shape for one in IMAGES]


def test_a_buffer_that_does_not_hold_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need uint8 \[12\], got uint8 \[11\]"):
        Packed(torch.zeros(11, dtype=torch.uint8), [(2, 2, 3)])
    with pytest.raises(ValueError, match=r"got float32 \[12\]"):
        Packed(torch.zeros(12), [(2, 2, 3)])
    with pytest.raises(ValueError, match="one number of channels"):
        Packed(torch.zeros(16, dtype=torch.uint8), [(2, 2, 3), (2, 2, 1)])
