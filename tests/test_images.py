"""Laws of images in memory: every kind is accepted, and a mistake is a sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import UNDONE_BY, encode, gradient
from PIL import ExifTags, Image
from torch import Tensor

from fovea.decoding import BadImage, read_image
from fovea.images import as_images

PIXELS = np.array(gradient(4, 6))  # [H, W, C]
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)  # [C, H, W]


@pytest.mark.parametrize(
    "images",
    [
        gradient(4, 6),
        PIXELS,
        TENSOR,
        PIXELS[None],
        TENSOR[None],
        [gradient(4, 6)],
        (TENSOR, PIXELS, gradient(4, 6)),
        PIXELS[::-1][::-1],
        np.asarray(gradient(4, 6)),
    ],
    ids=["PIL", "array", "tensor", "arrays", "tensors", "list", "mixed", "strided", "read-only"],
)
@pytest.mark.parametrize("channels", [None, 3])
def test_every_kind_of_image_gives_the_same_tensor(images: object, channels: int | None) -> None:
    for image in as_images(images, channels):  # type: ignore[arg-type]
        assert np.array_equal(image.numpy(), PIXELS)
        assert image.is_contiguous()


def test_a_batch_becomes_its_images_in_order() -> None:
    batch = torch.arange(5 * 3 * 2 * 4, dtype=torch.uint8).view(5, 3, 2, 4)
    assert torch.equal(torch.stack(as_images(batch)), batch.permute(0, 2, 3, 1))


def test_images_of_a_list_may_differ_in_size() -> None:
    images = as_images([gradient(3, 5), PIXELS, TENSOR[:, :1, :1]])
    assert [tuple(image.shape) for image in images] == [(3, 5, 3), (4, 6, 3), (1, 1, 3)]


@pytest.mark.parametrize("grey", [PIXELS[..., 0], PIXELS[..., :1], TENSOR[0], TENSOR[:1]])
def test_grey_arrays_keep_one_channel_unless_three_are_asked(
    grey: np.ndarray | Tensor,
) -> None:
    (kept,), (repeated,) = as_images(grey), as_images(grey, channels=3)
    assert np.array_equal(kept.numpy(), PIXELS[..., :1])
    assert torch.equal(repeated, kept.expand(-1, -1, 3))
    assert repeated.is_contiguous()


@pytest.mark.parametrize("orientation", UNDONE_BY)
def test_a_pil_image_reads_as_its_file_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(gradient(4, 6).convert("P"), exif=exif, transparency=3)
    for channels in (1, 3):
        (image,) = as_images(Image.open(io.BytesIO(data)), channels)
        assert torch.equal(image, read_image(io.BytesIO(data), channels))


def test_a_pil_image_is_left_as_it_was() -> None:
    picture = gradient(4, 6).convert("RGBA")
    picture.getexif()[ExifTags.Base.Orientation] = 6
    (image,) = as_images(picture)
    assert image.shape == (6, 4, 3)
    assert (picture.mode, picture.size) == ("RGBA", (6, 4))
    assert picture.getexif()[ExifTags.Base.Orientation] == 6


def test_arrays_of_many_channels_are_kept() -> None:
    (image,) = as_images(np.zeros((8, 9, 13), dtype=np.uint8), channels=13)
    assert image.shape == (8, 9, 13)


@pytest.mark.parametrize(
    ("images", "channels", "message"),
    [
        ([], None, "images is empty"),
        (TENSOR[None][:0], None, "images is empty"),
        (
            [PIXELS, PIXELS / 255.0],
            None,
            r"images\[1\]: float64, but images\[0\] is uint8; give all of one",
        ),
        (TENSOR.float(), None, r"\[0\]: float pixels from 0 to 2\d\d, expected 0 to 1"),
        (TENSOR.half(), None, r"\[0\]: expected uint8, uint16, float32, float64, got float16; sc"),
        (TENSOR > 0, None, r"\[0\]: expected uint8, .*, got bool"),
        (PIXELS[0, 0], None, r"\[0\]: expected 2 or 3 dimensions, got shape \(3,\)"),
        ([TENSOR[None]], None, r"\[0\]: expected 2 or 3 dimensions, got shape \(1, 3, 4, 6\)"),
        ([PIXELS, PIXELS[:0]], None, r"images\[1\]: empty, as its shape is \(0, 6, 3\)"),
        (TENSOR[:0], None, r"\[0\]: empty, as its shape is \(0, 4, 6\)"),
        (Image.new("RGB", (0, 5)), None, r"\[0\] cannot be used: it has no pixels"),
        (
            [PIXELS, "cat.png"],
            None,
            r"\[1\]: got the path 'cat.png'; open it with fovea.d",
        ),
        (
            Path("cat.png"),
            None,
            r"\[0\]: got the path 'cat.png'; open it with fovea.d",
        ),
        ([PIXELS, None], None, r"\[1\]: expected a PIL image, numpy array or torch tensor, got No"),
        ([[PIXELS]], None, r"\[0\]: expected a PIL image, numpy array or torch tensor, got list"),
        (b"\x89PNG", None, r"\[0\]: expected a PIL image, numpy array or torch tensor, got bytes"),
        (
            [PIXELS, TENSOR],
            1,
            r"\[0\]: 4 x 6 pixels of 3 channels, expected 1; a numpy array is \[",
        ),
        (PIXELS.repeat(2, axis=2), 3, r"\[0\]: 4 x 6 pixels of 6 channels, expected 3"),
        (
            torch.zeros(90, 80, 3).byte(),
            None,
            r"90 channels, expected 1 to 4; .* tensor \[C, H, W\]",
        ),
        (
            np.zeros((3, 90, 80), np.uint8),
            None,
            r"80 channels, expected 1 to 4; a numpy array is \[",
        ),
        ([PIXELS, PIXELS[..., :1]], None, r"images\[1\]: 1 channels, but images\[0\] has 3; state"),
        ([TENSOR, gradient()], 2, r"\[0\]: 4 x 6 pixels of 3 channels, expected 2"),
        (gradient(), 2, r"images\[0\]: channels of a PIL image: expected 1 or 3, got 2"),
    ],
)
def test_an_error_names_the_position_the_fault_and_what_would_be_right(
    images: object, channels: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        as_images(images, channels)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_pil_image_that_cannot_be_decoded_is_a_bad_image() -> None:
    lazy = Image.open(io.BytesIO(encode(gradient(), "BMP")[:-30]))
    with pytest.raises(BadImage, match=r"images\[1\] cannot be used: .*truncated"):
        as_images([gradient(), lazy])
