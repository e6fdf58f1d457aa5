"""Images: in memory, of any sizes, as [H, W, C]; and what stands for one that is still a file."""

from collections.abc import Sequence
from functools import singledispatch
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fovea.decoding import convert

Array: TypeAlias = NDArray[np.uint8]
"""An image between file and extractor: uint8 [H, W, C]."""

WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0, torch.float64: 1.0}
"""The dtypes of images in memory, and the pixel value of each that is 1.0 in a patch."""


class Source:
    """An image that an extractor reads in parts: small, and whole again after pickling.

    ``fovea.extract.tiles.TileSource`` is the kind that ``pyramid`` reads.

    Attributes:
        name: what messages call the image.
    """

    name: str


class Packed(Sequence[Array]):
    """A batch of images of any sizes in one buffer, one after the other; a sequence of arrays.

    One buffer reaches a GPU in one copy, and is shared by processes as a whole.

    Args:
        pixels: uint8 [sum of H * W * C].
        shapes: (H, W, C) of each image; C is the same for all.

    Attributes:
        counts: H * W * C of each image.

    Raises:
        ValueError: the buffer does not hold these images.
    """

    def __init__(self, pixels: Tensor, shapes: Sequence[tuple[int, int, int]]):
        sizes = [prod(shape) for shape in shapes]
        if pixels.dtype != torch.uint8 or pixels.shape != (sum(sizes),):
            found = f"{_name(pixels.dtype)} {list(pixels.shape)}"
            raise ValueError(f"packed images need uint8 [{sum(sizes)}], got {found}")
        if len({shape[2] for shape in shapes}) > 1:
            raise ValueError("packed images need one number of channels for all")
        self.pixels, self.shapes, self.counts = pixels, list(shapes), sizes
        self._ends = list(accumulate(sizes))

    @classmethod
    def of(cls, images: Sequence[Array]) -> "Packed":
        """Copy arrays uint8 [H, W, C] into one buffer."""
        pixels = np.concatenate([image.ravel() for image in images])
        shapes = [(int(H), int(W), int(C)) for H, W, C in (image.shape for image in images)]
        return cls(torch.from_numpy(pixels), shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Array]: ...
    def __getitem__(self, index: int | slice) -> Array | Sequence[Array]:
        if isinstance(index, slice):
            return [one.numpy() for one in self.tensors()[index]]
        place = range(len(self))[index]
        end = self._ends[place]
        part = self.pixels[end - self.counts[place] : end]
        array: Array = part.view(self.shapes[place]).numpy()
        return array

    def tensors(self) -> list[Tensor]:
        """View each image where the buffer is: uint8 [H, W, C]."""
        parts = self.pixels.split(self.counts)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Packed":
        """Move the buffer."""
        return Packed(self.pixels.to(device, non_blocking=non_blocking), self.shapes)


Unopened: TypeAlias = str | Path | Source
"""An image that is not in memory. Extractors that read in parts open it; others refuse it."""


def packable(images: Sequence[Array | Unopened]) -> TypeGuard[Sequence[Array]]:
    """Say whether images can be ``Packed``: uint8 [H, W, C] all, in memory, of one C."""
    arrays = [image for image in images if isinstance(image, np.ndarray)]
    fitting = [array for array in arrays if array.dtype == np.uint8 and array.ndim == 3]
    return len(fitting) == len(images) and len({array.shape[2] for array in fitting}) == 1


Picture: TypeAlias = Image.Image | NDArray[Any] | Tensor
Images: TypeAlias = Picture | Unopened | Sequence[Picture | Unopened]
"""A PIL image, a numpy array [H, W, C] or [H, W], a torch tensor [C, H, W] or [H, W], of a dtype of
``WHITE``; what an extractor opens itself; a list or tuple of those, of any sizes; a batch, numpy
[B, H, W, C] or torch [B, C, H, W]; or images that are ``Packed``."""


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
    if isinstance(images, Packed):
        views = enumerate(images.tensors())
        tensors = [_with_channels(one, channels, f"images[{i}]") for i, one in views]
    else:
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


def as_packed(images: Images, channels: int | None = None) -> Packed | list[Tensor]:
    """Accept images in memory as ``as_images`` does, and join those of uint8 in one buffer.

    It lies where the images are, or where the first of them is. ``Packed`` images are taken as they
    are, and a batch [B, C, H, W] is copied by one operation: neither is looked at image by image.
    """
    if isinstance(images, Packed) and images and _is_kept(images.shapes[0][2], channels):
        if 0 in images.counts:
            raise ValueError(f"packed images[{images.counts.index(0)}] has no pixels")
        return images
    if isinstance(images, Tensor) and images.ndim == 4 and images.dtype == torch.uint8:
        B, C, H, W = images.shape
        if images.numel() > 0 and _is_kept(C, channels):
            return Packed(images.movedim(1, -1).reshape(-1), [(H, W, C)] * B)
    tensors = as_images(images, channels)
    if tensors[0].dtype != torch.uint8:
        return tensors
    place = tensors[0].device
    pixels = torch.cat([tensor.to(place).flatten() for tensor in tensors])
    return Packed(pixels, [(H, W, C) for H, W, C in (tensor.shape for tensor in tensors)])


def _is_kept(count: int, channels: int | None) -> bool:
    """Say whether images of that many channels are wanted as they are, whatever their size."""
    return count == channels or (channels is None and count <= 4)


def listed(images: object) -> Sequence[object]:
    """List what is one image, a batch, or a list already."""
    if isinstance(images, list | tuple | Packed):
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
    raise ValueError(
        f"{name}: got the path {str(path)!r}; open it with fovea.decoding.read_image, or choose an "
        "extractor that opens files, such as pyramid"
    )


@_image.register(Source)
def _refuse_source(source: Source, channels: int | None, name: str) -> Tensor:
    raise ValueError(
        f"{name}: {source.name} is a {type(source).__name__}, not pixels in memory; choose an "
        "extractor that opens it, as pyramid does a TileSource"
    )


@_image.register(Image.Image)
def _from_pil(picture: Image.Image, channels: int | None, name: str) -> Tensor:
    return convert(picture, 3 if channels is None else channels, name)


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


def _check_array(shape: tuple[int, ...], dtype: str, name: str) -> None:
    known = [_name(dtype) for dtype in WHITE]
    if dtype not in known:
        raise ValueError(f"{name}: expected {', '.join(known)}, got {dtype}; scale and cast it")
    if len(shape) not in (2, 3):
        raise ValueError(f"{name}: expected 2 or 3 dimensions, got shape {shape}")
    if 0 in shape:
        raise ValueError(f"{name}: empty, as its shape is {shape}; expected at least one pixel")


def _check_range(tensor: Tensor, name: str) -> None:
    if tensor.is_floating_point():  # the host waits for a GPU: a wrong range would go unseen
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
