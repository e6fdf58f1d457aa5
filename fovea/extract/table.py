"""Integral images: the sum of all pixels above and to the left of each pixel corner.

A table of uint8 pixels is int32 and wraps around: since wrapping is arithmetic modulo 2**32, the
sum of a box, a difference of four entries, is exact as long as that box alone sums to less than
2**31. Nothing is lost to rounding, whatever the size of the image, where a float32 table would be
off by whole grey levels. uint16 pixels get an int64 table, which never wraps, and float pixels a
float64 one, through which gradients reach them (our choices; the paper speaks of neither).

A table is stored as [(H+1) * (W+1), C], row by row, the channels of a pixel side by side.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fovea.kernels import is_installed

Builder = Literal["cv2", "torch"]

ENTRIES = {
    torch.uint8: torch.int32,
    torch.uint16: torch.int64,
    torch.float32: torch.float64,
    torch.float64: torch.float64,
}
"""The dtype of a table by that of its pixels."""

LARGEST_CELL = (2**31 - 1) // 255
"""Pixels of uint8 whose sum stays within int32, however bright."""

_NUMPY = {torch.int32: np.int32, torch.int64: np.int64}
_CV2_CHANNELS = 512  # OpenCV knows no more
_MANY = 2**18  # pixels of a batch from which threads are worth starting
_GROUP = 64  # images of one size that are scanned at once on a GPU: bounds the memory beside it
_SPARE = 16  # a buffer this much larger than what is needed is given back to the system


@dataclass(frozen=True)
class Layout:
    """Where the images of a batch lie in a packed buffer, and their tables in a flat one.

    Attributes:
        sizes: int64 [B, 2], (height, width).
        starts: int64 [B], each image's first byte, if it is of uint8.
        offsets: int64 [B], each table's first entry.
        channels: C.
        entries: of all tables.
        tallest, widest: the greatest height and width.
    """

    sizes: Tensor
    starts: Tensor
    offsets: Tensor
    channels: int
    entries: int
    tallest: int
    widest: int

    @classmethod
    def of(cls, shapes: Sequence[Sequence[int]]) -> "Layout":
        """Lay out images of shapes (H, W, C), on the CPU."""
        shape = torch.tensor(shapes)
        pixels, entries = shape.prod(1), (shape[:, :2] + 1).prod(1)
        starts, offsets = pixels.cumsum(0) - pixels, entries.cumsum(0) - entries
        tallest, widest, C = shape.amax(0).tolist()
        return cls(
            shape[:, :2].contiguous(), starts, offsets, C, int(entries.sum()), tallest, widest
        )

    def to(self, device: torch.device) -> "Layout":
        """Copy to a device, at once, and without waiting for it."""
        B = len(self.sizes)
        joined = torch.cat([self.sizes.flatten(), self.starts, self.offsets])
        sizes, starts, offsets = send(joined, device).split([2 * B, B, B])
        return replace(self, sizes=sizes.view(B, 2), starts=starts, offsets=offsets)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; from the CPU to a GPU through pinned memory, without waiting for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def choose_builder(setting: Literal["auto", "cv2", "torch"]) -> Builder:
    """Resolve how tables of uint8 pixels are built on the CPU.

    Raises:
        ValueError: cv2 is asked for and not installed.
    """
    installed = is_installed("cv2")
    if setting == "cv2" and not installed:
        raise ValueError(
            "extractor.table: cv2 is not installed; pip install 'fovea-vit[fast]', or choose torch"
        )
    return "cv2" if installed and setting != "torch" else "torch"


class Buffers:
    """Memory for tables, used again once nobody looks at the table any more.

    A fresh buffer costs as much as the table itself, since the system hands out its pages one
    fault at a time. A buffer is free when no tensor refers to it: nothing needs to be returned.
    """

    def __init__(self) -> None:
        self._buffers: list[NDArray[np.uint8]] = []
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["Buffers"], tuple[()]]:
        return Buffers, ()  # a copy, or what a file brings back, starts empty

    def take(self, count: int, channels: int, dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor [count, channels]; its memory is taken while it lives."""
        entry = np.dtype(_NUMPY[dtype])
        needed = count * channels * entry.itemsize
        with self._lock:
            idle = [i for i, users in enumerate(_users(self._buffers)) if users == _IDLE]
            fitting = [i for i in idle if needed <= self._buffers[i].nbytes <= _SPARE * needed]
            if fitting:
                buffer = self._buffers[min(fitting, key=lambda i: self._buffers[i].nbytes)]
            else:
                kept = [b for i, b in enumerate(self._buffers) if i not in idle]
                buffer = np.empty(needed, dtype=np.uint8)
                self._buffers = [*kept, buffer]
            table: Tensor = torch.from_numpy(buffer[:needed].view(entry))
        return table.view(count, channels)

    @property
    def nbytes(self) -> int:
        """The memory held, in bytes."""
        return sum(buffer.nbytes for buffer in self._buffers)


def _users(buffers: list[NDArray[np.uint8]]) -> list[int]:
    return [sys.getrefcount(buffer) for buffer in buffers]


_IDLE = _users([np.empty(0, dtype=np.uint8)])[0]


def build_tables(
    images: Sequence[Tensor], offsets: Sequence[int], out: Tensor, builder: Builder
) -> None:
    """Fill a flat table [sum (H+1)(W+1), C] with images uint8 or uint16 [H, W, C], on the CPU."""

    def build(image: Tensor, offset: int) -> None:
        H, W, C = image.shape
        view = out[offset : offset + (H + 1) * (W + 1)].view(H + 1, W + 1, C).numpy()
        one(image.numpy(), view)

    by_cv2 = builder == "cv2" and out.dtype == torch.int32 and out.shape[1] <= _CV2_CHANNELS
    one = _by_cv2 if by_cv2 else _by_rows
    threads = min(torch.get_num_threads(), len(images))
    if by_cv2 and threads > 1 and len(out) > _MANY:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(build, images, offsets))
    else:
        for image, offset in zip(images, offsets, strict=True):
            build(image, offset)


def _by_cv2(image: NDArray[np.uint8], out: NDArray[np.int32]) -> None:
    import cv2  # optional, and slow to import

    written = cv2.integral(image, out, cv2.CV_32S)
    assert np.may_share_memory(written, out)  # OpenCV would put aside a buffer that does not fit


def _by_rows(image: NDArray[Any], out: NDArray[Any]) -> None:
    """Add up rows in numpy, which streams them, then scan along the width in place."""
    out[0] = 0
    out[:, 0] = 0
    for y in range(len(image)):
        row = out[y + 1, 1:]
        row[...] = image[y]  # numpy adds faster where both are of one type
        row += out[y, 1:]
    torch.from_numpy(out).cumsum_(1)


def scan_tables(images: Sequence[Tensor]) -> Tensor:
    """Sum up images [H, W, C] of one dtype on their device -> flat table [sum (H+1)(W+1), C].

    Planar, as a GPU scans well, and then stored with the channels side by side. Gradients of the
    table reach float images. On the CPU it is the slow, obvious reference.
    """
    dtype = ENTRIES[images[0].dtype]
    tables: list[Tensor] = []
    for _, same in groupby(images, key=lambda image: image.shape):
        members = list(same)
        for first in range(0, len(members), _GROUP):
            stack = torch.stack(members[first : first + _GROUP]).to(dtype)  # [b, H, W, C]
            planar = F.pad(stack.permute(0, 3, 1, 2), (1, 0, 1, 0))
            summed = planar.cumsum(2, dtype=dtype).cumsum(3, dtype=dtype)
            tables.append(summed.permute(0, 2, 3, 1).reshape(-1, planar.shape[1]))
    return tables[0] if len(tables) == 1 else torch.cat(tables)
