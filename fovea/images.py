"""Images in: decode any file and accept any in-memory image, as uint8 [H, W, C].

Files are decoded by Pillow alone. All that is wrong with a file ends in one exception,
``BadImage``, so that a data set can count the file and go on. Our choices, where a picture does not
say how its numbers become 8-bit ones:

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
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import singledispatch
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

PIL_LIMIT = 2 * 89_478_485
"""Pixels above which Pillow itself refuses an image."""

Array: TypeAlias = NDArray[np.uint8]
"""An image between file and extractor: uint8 [H, W, C]."""

WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0, torch.float64: 1.0}
"""The dtypes of images in memory, and the pixel value of each that is 1.0 in a patch."""

Picture: TypeAlias = Image.Image | NDArray[Any] | Tensor
Images: TypeAlias = Picture | Sequence[Picture]
"""A PIL image, a numpy array [H, W, C] or [H, W], a torch tensor [C, H, W] or [H, W], of a dtype of
``WHITE``; a list or tuple of those, of any sizes; or a batch, numpy [B, H, W, C] or torch
[B, C, H, W]."""


class BadImage(ValueError):  # noqa: N818 - it names the image, as a data set counts them
    """An image that cannot be used; the message is one sentence naming it and the reason."""


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
        BadImage: the file is missing, damaged, truncated, too large, empty or no image, or has
            pixels that do not fit 8 bits, or a format that may start another program (EPS, IPTC).
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


def as_images(images: Images, channels: int | None = None) -> list[Tensor]:
    """Accept images in memory: -> list of [H, W, C], contiguous, where the tensors were.

    All have one dtype of ``WHITE``: uint8, uint16, or float32 or float64 in 0..1, through which
    gradients run. PIL images are converted as files are, to uint8. A result may share memory with
    what was given.

    Args:
        images: see ``Images``.
        channels: C of the result. A grey array is repeated where 3 are wanted, and other arrays
            must have as many. None: PIL images become 3 channels, and arrays keep theirs.

    Raises:
        ValueError: no images, or an image of another kind, dtype, shape, number of channels or
            range of values.
        BadImage: Pillow cannot decode or convert a PIL image.
    """
    given = listed(images)
    tensors = [_image(given[i], channels, f"images[{i}]") for i in range(len(given))]
    if not tensors:
        raise ValueError("images is empty; expected at least one image")
    for i, tensor in enumerate(tensors):
        if tensor.dtype != tensors[0].dtype:
            found, first = _name(tensor.dtype), _name(tensors[0].dtype)
            raise ValueError(f"images[{i}]: {found}, but images[0] is {first}; give all of one")
    counts = [tensor.shape[-1] for tensor in tensors]
    for i, count in enumerate(counts):
        if count != counts[0]:
            clash = f"images[{i}]: {count} channels, but images[0] has {counts[0]}"
            raise ValueError(f"{clash}; state channels=3 to repeat grey images")
    return tensors


_DAMAGE = (EOFError, MemoryError, OSError, SyntaxError, ValueError, struct.error, zlib.error)
_TRIPPED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError)
_PILLOW_RAISES = (*_DAMAGE, *_TRIPPED, SystemError, Image.DecompressionBombError)

# Loading EPS runs Ghostscript; IPTC holds a second file of any format, EPS among them.
_REFUSED_FORMATS = {"EPS", "IPTC"}


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into BadImage, and hide what it only warns about."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
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
        raise ValueError(f"{picture.width} x {picture.height} pixels are over {max_pixels}")


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


def listed(images: object) -> Sequence[object]:
    """List what is one image, a batch, or a list already."""
    if isinstance(images, list | tuple):
        return images
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        return list(images)
    return [images]


@singledispatch
def _image(image: object, channels: int | None, name: str) -> Tensor:
    """Accept one image: -> uint8 [H, W, C]; each kind of image registers its own."""
    expected = "expected a PIL image, numpy array or torch tensor"
    raise ValueError(f"{name}: {expected}, got {type(image).__name__}")


@_image.register(str)
@_image.register(Path)
def _refuse_path(path: str | Path, channels: int | None, name: str) -> Tensor:
    raise ValueError(f"{name}: got the path {str(path)!r}; open it with fovea.images.read_image")


@_image.register(Image.Image)
def _from_pil(picture: Image.Image, channels: int | None, name: str) -> Tensor:
    wanted = 3 if channels is None else channels
    _check_channels(wanted, f"{name}: channels of a PIL image")
    with _refusals(name):
        converted = _converted(picture, wanted)
    return _tensor(converted)


@_image.register(np.ndarray)
def _from_numpy(array: NDArray[Any], channels: int | None, name: str) -> Tensor:
    _check_array(array.shape, str(array.dtype), name)
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    _check_range(tensor, name)
    image = tensor if array.ndim == 3 else tensor.unsqueeze(-1)  # -> [H, W, C]
    return _with_channels(image, channels, name)


@_image.register(Tensor)
def _from_torch(tensor: Tensor, channels: int | None, name: str) -> Tensor:
    _check_array(tuple(tensor.shape), _name(tensor.dtype), name)
    _check_range(tensor, name)
    image = tensor.movedim(0, -1) if tensor.ndim == 3 else tensor.unsqueeze(-1)  # -> [H, W, C]
    return _with_channels(image, channels, name)


def _check_channels(channels: int, name: str) -> None:
    if channels not in (1, 3):
        raise ValueError(f"{name}: expected 1 or 3, got {channels}")


def _check_array(shape: tuple[int, ...], dtype: str, name: str) -> None:
    known = [_name(dtype) for dtype in WHITE]
    if dtype not in known:
        raise ValueError(f"{name}: expected {', '.join(known)}, got {dtype}; scale and cast it")
    if len(shape) not in (2, 3):
        raise ValueError(f"{name}: expected 2 or 3 dimensions, got shape {shape}")
    if 0 in shape:
        raise ValueError(f"{name}: empty, as its shape is {shape}; expected at least one pixel")


def _check_range(tensor: Tensor, name: str) -> None:
    if tensor.is_floating_point():
        low, high = (bound.item() for bound in tensor.detach().aminmax())
        if not 0 <= low <= high <= 1:  # so written, it refuses NaN too
            raise ValueError(f"{name}: float pixels from {low:g} to {high:g}, expected 0 to 1")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _with_channels(image: Tensor, channels: int | None, name: str) -> Tensor:
    """Check or repeat channels: [H, W, C] -> [H, W, channels]."""
    height, width, count = image.shape
    if channels == 3 and count == 1:
        image = image.expand(-1, -1, 3)
    elif channels not in (None, count) or (channels is None and count > 4 >= min(height, width)):
        raise ValueError(
            f"{name}: {height} x {width} pixels of {count} channels, expected "
            f"{channels or '1 to 4'}; a numpy array is [H, W, C], a torch tensor [C, H, W]"
        )
    return image.contiguous()
