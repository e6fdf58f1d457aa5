"""Laws of packed images: one buffer, and still a sequence of arrays."""

import numpy as np
import pytest
import torch

from fovea import create
from fovea.images import Packed, as_images, as_packed

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


def test_packed_images_and_batches_are_not_looked_at_one_by_one() -> None:
    packed = Packed.of(IMAGES)
    assert as_packed(packed, 3) is packed
    assert as_packed(packed) is packed
    batch = torch.from_numpy(np.stack([IMAGES[0]] * 2)).permute(0, 3, 1, 2)  # [B, C, H, W]
    joined = as_packed(batch)
    assert isinstance(joined, Packed)
    assert joined.pixels.data_ptr() == batch.data_ptr()  # it lay as [B, H, W, C] already
    assert all(np.array_equal(one, IMAGES[0]) for one in joined)


@pytest.mark.parametrize("channels", [None, 3])
def test_all_images_of_bytes_are_packed_as_they_are_accepted(channels: int | None) -> None:
    grey = torch.from_numpy(np.stack([IMAGES[0][..., :1]] * 2)).permute(0, 3, 1, 2)
    for images in (IMAGES, IMAGES[0], list(grey), grey, Packed.of([IMAGES[0][..., :1]])):
        packed, wanted = as_packed(images, channels), as_images(images, channels)
        assert isinstance(packed, Packed)
        assert len(packed) == len(wanted)
        assert all(torch.equal(one, two) for one, two in zip(packed.tensors(), wanted, strict=True))


def test_images_of_other_numbers_stay_single() -> None:
    deep = [image.astype(np.uint16) for image in IMAGES]
    assert [one.dtype for one in as_packed(deep)] == [torch.uint16] * 4  # type: ignore[union-attr]


def test_what_cannot_be_packed_is_refused_as_ever() -> None:
    with pytest.raises(ValueError, match="images is empty"):
        as_packed(Packed(torch.zeros(0, dtype=torch.uint8), []))
    with pytest.raises(ValueError, match=r"\[0\]: 7 x 12 pixels of 3 channels, expected 2"):
        as_packed(Packed.of(IMAGES), 2)
    with pytest.raises(ValueError, match=r"images\[0\]: empty"):
        as_packed(torch.zeros(2, 3, 0, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"packed images\[1\] has no pixels"):
        as_packed(Packed(torch.zeros(12, dtype=torch.uint8), [(2, 2, 3), (2, 0, 3)]))


def test_a_buffer_that_does_not_hold_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need uint8 \[12\], got uint8 \[11\]"):
        Packed(torch.zeros(11, dtype=torch.uint8), [(2, 2, 3)])
    with pytest.raises(ValueError, match=r"got float32 \[12\]"):
        Packed(torch.zeros(12), [(2, 2, 3)])
    with pytest.raises(ValueError, match="one number of channels"):
        Packed(torch.zeros(16, dtype=torch.uint8), [(2, 2, 3), (2, 2, 1)])
