"""Images that are read in parts: what a source of tiles is, arrays as one, and a bounded cache."""

import struct
import warnings
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fovea.decoding import BadImage
from fovea.images import Source

Pixels: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""Part of an image, uint8 or uint16 [h, w, C]: 0 is black, the dtype's greatest number white."""


TRIPPED = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError, struct.error, zlib.error),
)
"""What libraries raise where a damaged file trips them."""


@dataclass(frozen=True)
class Level:
    """One resolution of a source.

    Attributes:
        height, width: its size in pixels.
        tile: height and width of what is decoded at once; None where any region is read at the
            cost of its own pixels, as from a memory map.
    """

    height: int
    width: int
    tile: tuple[int, int] | None = None


class TileSource(Source, ABC):
    """An image that is read in parts, at one resolution or several.

    Attributes:
        levels: finest first; each shows the whole image.
        channels: C.
        dtype: uint8 or uint16.
        once: whether ``read`` works only once for each tile, from top to bottom, as decoding a
            JPEG does; there is then one level, whose tiles are as wide as the image.
    """

    levels: tuple[Level, ...]
    channels: int
    dtype: "np.dtype[Any]"
    once: bool = False

    @abstractmethod
    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a region of a level, which lies inside it: -> [bottom - top, right - left, C].

        Where the level has tiles, only single whole tiles are asked for, cut at the image's border.

        Raises:
            BadImage: this part of the file is damaged.
        """


class ArraySource(TileSource):
    """An array in memory or a memory map; a large image that is already decoded.

    Nothing is copied. A map dies with its file: if another program truncates the file while it is
    read, the operating system ends this process (SIGBUS), and no library can turn that into an
    exception.
    """

    def __init__(self, *arrays: Pixels, name: str = "the array"):
        """Take [H, W, C] or [H, W] of uint8 or uint16; further arrays are coarser levels.

        Raises:
            ValueError: an array has another dtype or shape.
        """
        self.arrays = [_checked(array, name) for array in arrays]
        self.name = name
        self.levels = tuple(Level(*array.shape[:2]) for array in self.arrays)
        self.channels = self.arrays[0].shape[2]
        self.dtype = self.arrays[0].dtype.newbyteorder("=")

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a region of a level: a view."""
        return self.arrays[level][top:bottom, left:right]


class CachedSource(TileSource):
    """Another source, of which any region may be read: tiles are decoded once and then kept."""

    def __init__(self, source: TileSource, cache: "TileCache"):
        self.source = source
        self.cache = cache
        self.name = source.name
        self.levels = tuple(Level(level.height, level.width) for level in source.levels)
        self.channels = source.channels
        self.dtype = source.dtype

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a region of a level by joining tiles."""
        tile = self.source.levels[level].tile
        if tile is None or bottom <= top or right <= left:
            return self.source.read(level, top, left, bottom, right)
        rows = range(top // tile[0], -(-bottom // tile[0]))
        columns = range(left // tile[1], -(-right // tile[1]))
        out: Pixels = np.empty((bottom - top, right - left, self.channels), self.dtype)
        for row in rows:
            y0, y1 = max(top, row * tile[0]), min(bottom, (row + 1) * tile[0])
            for column in columns:
                x0, x1 = max(left, column * tile[1]), min(right, (column + 1) * tile[1])
                pixels = self._tile(level, row * tile[0], column * tile[1], tile)
                y, x = y0 - row * tile[0], x0 - column * tile[1]
                out[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[
                    y : y + y1 - y0, x : x + x1 - x0
                ]
        return out

    def _tile(self, level: int, top: int, left: int, tile: tuple[int, int]) -> Pixels:
        bottom = min(top + tile[0], self.levels[level].height)
        right = min(left + tile[1], self.levels[level].width)
        return self.cache.get(
            (id(self.source), level, top, left),
            lambda: self.source.read(level, top, left, bottom, right),
        )


class TileCache:
    """Decoded tiles, of which the least recently used go first.

    Attributes:
        limit: bytes that are kept at most; a tile that is larger is not kept.
        held: bytes that are kept now.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.held = 0
        self._tiles: OrderedDict[tuple[int, int, int, int], Pixels] = OrderedDict()

    def get(self, key: tuple[int, int, int, int], load: Callable[[], Pixels]) -> Pixels:
        """Return the tile of a key, loaded if it is not kept."""
        tile = self._tiles.get(key)
        if tile is None:
            tile = load()
            self._keep(key, tile)
        else:
            self._tiles.move_to_end(key)
        return tile

    def _keep(self, key: tuple[int, int, int, int], tile: Pixels) -> None:
        if tile.nbytes > self.limit:
            return
        while self.held + tile.nbytes > self.limit:
            self.held -= self._tiles.popitem(last=False)[1].nbytes
        # a view would keep alive what it is cut from, which may be larger than it
        self._tiles[key] = tile if tile.base is None else tile.copy()
        self.held += tile.nbytes


@contextmanager
def refusals(name: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn what a library raises over a damaged file into BadImage, one sentence.

    ``kinds`` are the library's own exceptions; beside them it may trip over the file anywhere.
    """
    expected: tuple[type[Exception], ...] = (*TRIPPED, *kinds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except expected as error:
        raise BadImage(f"{name} cannot be used: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def over_white(pixels: Pixels, premultiplied: bool = False) -> Pixels:
    """Lay pixels whose last channel is their opacity over white: [h, w, C + 1] -> [h, w, C]."""
    white = np.iinfo(pixels.dtype).max
    colour, alpha = pixels[..., :-1], pixels[..., -1:]
    if alpha.min(initial=white) == white:
        return colour
    share = alpha.astype(np.float32) / white
    seen = colour.astype(np.float32) if premultiplied else colour * share
    mixed = np.rint(seen + white * (1 - share)).clip(0, white)
    return mixed.astype(pixels.dtype)


def _checked(array: Pixels, name: str) -> Pixels:
    """Bring an array to [H, W, C], or say what is wrong with it."""
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        kinds = "expected pixels of uint8 or uint16"
        raise ValueError(f"{name}: {kinds}, got {array.dtype}; scale and cast them")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"{name}: expected [H, W, C] or [H, W], got shape {array.shape}")
    image = np.asarray(array)  # indexing a memmap object itself is slow
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] > 4 >= min(image.shape[:2]):
        raise ValueError(f"{name}: expected [H, W, C], got shape {array.shape}")
    return image
