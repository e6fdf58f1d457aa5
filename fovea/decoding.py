"""Decode image files with Pillow, and with nothing else: -> uint8 [H, W, C].

All that is wrong with a file ends in one exception, ``BadImage``, so that a data set can count the
file and go on. Our choices, where a picture does not say how its numbers become 8-bit ones:

- transparent pixels are laid over white: drawings on a transparent page are mostly dark;
- 16-bit grey (also Pillow's mode ``I``; also 12-bit TIFF, so dark) is divided by 257, not clipped;
- float grey must lie in 0..1 and is multiplied by 255;
- grey from colour is Pillow's luma (ITU-R 601); colour profiles are ignored;
- the EXIF orientation is applied, and of an animation or a document the first frame is read.
"""

import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

PIL_LIMIT = 2 * 89_478_485
"""Pixels above which Pillow itself refuses an image."""

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2"),
    *(".ppm", ".pgm", ".pbm"),
}
"""Endings, in lower case, of the names that data sets take for images. Our choice."""


class BadImage(ValueError):  # noqa: N818 - it names the image, as a data set counts them
    """An image that cannot be used; the message is one sentence naming it and the reason."""


class TooLarge(BadImage):
    """An image of more pixels than the limit, refused by its header."""


def read_image(
    file: str | Path | BinaryIO,
    channels: int = 3,
    max_pixels: int = PIL_LIMIT,
    name: str | None = None,
    shorter_side: int | None = None,
) -> Tensor:
    """Decode a file: -> uint8 [H, W, C], contiguous; the module's text says how.

    Warnings are silenced meanwhile, for the whole process: decode in worker processes, not threads.

    Args:
        file: a path, or a binary stream, which is read from its start and left open.
        channels: 1 (grey) or 3 (RGB).
        max_pixels: images with more are refused by their header, before they take memory. Above
            ``PIL_LIMIT`` Pillow refuses too, unless you raise ``PIL.Image.MAX_IMAGE_PIXELS``.
        name: what messages call the file; by default its path.
        shorter_side: pixels that are needed along the image's shorter side. A JPEG is then decoded
            at the smallest of 1/2, 1/4 and 1/8 of its size that has as many; each pixel is the mean
            of those it stands for (where colour is subsampled, 2 of 255 off, rms). A size that is
            no multiple is resampled to a whole one, so that nothing moves. Other formats, smaller
            images, and None: all pixels.

    Raises:
        TooLarge: the image has more than ``max_pixels``.
        BadImage: the file is missing, damaged, truncated, empty or no image, or has pixels that do
            not fit 8 bits, or a format that may start another program (EPS, IPTC).
        ValueError: ``channels`` is neither 1 nor 3, or ``shorter_side`` is less than 1.
    """
    _check_channels(channels, "channels")
    if shorter_side is not None and shorter_side < 1:
        raise ValueError(f"shorter_side: expected at least 1 pixel, got {shorter_side}")
    with _refusals(repr(name or str(file))), _opened(file) as stream:
        picture: Image.Image = Image.open(stream)
        _check_header(picture, max_pixels)
        if shorter_side is not None:
            picture = _reduced(picture, shorter_side)
        converted = _converted(picture, channels)
    return _tensor(converted)


def convert(picture: Image.Image, channels: int, name: str) -> Tensor:
    """Bring an opened picture to what its file would be read as: -> uint8 [H, W, C].

    Args:
        picture: of any mode; it is left as it was.
        channels: 1 (grey) or 3 (RGB).
        name: what messages call the picture.

    Raises:
        BadImage: Pillow cannot decode or convert it.
        ValueError: ``channels`` is neither 1 nor 3.
    """
    _check_channels(channels, f"{name}: channels of a PIL image")
    with _refusals(name):
        converted = _converted(picture, channels)
    return _tensor(converted)


def format_of(file: str | Path | BinaryIO) -> str:
    """Name the format of an image that can be read, by its content, such as ``JPEG``."""
    with _refusals(str(file)), _opened(file) as stream:
        return Image.open(stream).format or "unknown"


_DAMAGE = (EOFError, MemoryError, OSError, SyntaxError, ValueError, struct.error, zlib.error)
_TRIPPED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError)
_PILLOW_RAISES = (*_DAMAGE, *_TRIPPED, SystemError)

# Loading EPS runs Ghostscript; IPTC holds a second file of any format, EPS among them.
_REFUSED_FORMATS = {"EPS", "IPTC"}


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into BadImage, and hide what it only warns about."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{name} cannot be used: {_reason(error)}") from error
    except _PILLOW_RAISES as error:
        raise BadImage(f"{name} cannot be used: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "empty, or not an image of a known format"  # Pillow's words print the stream
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _opened(file: str | Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """Open paths ourselves: Pillow would map them, and a map of a file that shrinks kills us."""
    return open(file, "rb") if isinstance(file, str | Path) else nullcontext(file)


def _check_header(picture: Image.Image, max_pixels: int) -> None:
    if picture.format in _REFUSED_FORMATS:
        raise ValueError(f"format {picture.format} may start another program")
    if picture.width * picture.height > max_pixels:
        size = f"{picture.width} x {picture.height} pixels"
        raise Image.DecompressionBombError(f"{size} are over {max_pixels}")


def _reduced(picture: Image.Image, shorter_side: int) -> Image.Image:
    """Have a JPEG decoded at a fraction of its size, its sides at least so long.

    Pillow rounds sizes up: the last row and column may be image only in part.
    """
    drafted = picture.draft(None, (shorter_side, shorter_side))  # None for other formats
    if drafted is None or drafted[1][2:] == picture.size:
        return picture
    _, extent = drafted  # (0, 0, width, height), before rounding
    size = math.floor(extent[2] + 0.5), math.floor(extent[3] + 0.5)
    return picture.resize(size, Image.Resampling.BICUBIC, extent)


def _converted(picture: Image.Image, channels: int) -> Image.Image:
    """Bring any mode and orientation to upright ``RGB`` or ``L``."""
    if 0 in picture.size:
        raise ValueError("it has no pixels")
    picture.load()  # some formats store their orientation behind the pixels
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        picture = _eight_bits(picture, 1)
    elif picture.mode.startswith("I"):
        picture = _eight_bits(picture, 65535)
    elif picture.has_transparency_data:
        picture = _over_white(picture)
    if channels == 1 and picture.mode not in ("L", "1"):
        picture = picture.convert("RGB")  # the only way to grey that every mode knows
    return picture.convert("L" if channels == 1 else "RGB")


def _eight_bits(picture: Image.Image, white: int) -> Image.Image:
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # so written, it refuses NaN too
        raise ValueError(f"pixels from {low} to {high} of mode {picture.mode}, not 0 to {white}")
    scaled = np.multiply(values, 255 / white, dtype=np.float32)
    return Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8))


def _over_white(picture: Image.Image) -> Image.Image:
    layer = picture.convert("RGBA")
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer.getchannel("A"))
    return page


def _tensor(picture: Image.Image) -> Tensor:
    """Copy pixels: ``L`` or ``RGB`` -> uint8 [H, W, C]."""
    return torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, -1)


def _check_channels(channels: int, name: str) -> None:
    if channels not in (1, 3):
        raise ValueError(f"{name}: expected 1 or 3, got {channels}")
