"""Coarser levels for images that lack them, built once by halving, in bounded memory.

A pyramid holds the levels that a file brings. Below the coarsest of them each further level
averages 2 x 2 pixels of the one before, until the longer side has at most ``SMALLEST`` pixels.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, lcm
from typing import Any

import numpy as np

from fovea.extract.tiles import ArraySource, CachedSource, Level, Pixels, TileCache, TileSource

SMALLEST = 64
"""Longer side, in pixels, of a level from which no other is built: it can be read as a whole."""
WIDEST_STEP = 4.1
"""Slides have levels in steps of up to 4, and a little more by rounding; what lies beyond a wider
gap is not used but built."""
IN_MEMORY = 2**26
"""Bytes of an image's built levels above which they lie in a file."""
_BLOCK = 2**23  # pixels halved at a time
_DITHER = ((0, 2), (3, 1))


@dataclass(frozen=True, eq=False)
class Pyramid:
    """All levels of one image, finest first.

    Attributes:
        places: where each level is read: a source, and the level's number there.
        scales: pixels of the image per pixel of the level, (x, y). They are exact, not rounded as
            the sizes are: the last pixel of a level may lie partly outside the image.
    """

    places: tuple[tuple[TileSource, int], ...]
    scales: tuple[tuple[float, float], ...]

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a region of a level: -> [bottom - top, right - left, C]."""
        source, number = self.places[level]
        return source.read(number, top, left, bottom, right)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of all levels."""
        levels = [source.levels[number] for source, number in self.places]
        return [(level.width, level.height) for level in levels]


def complete(source: TileSource, cache: TileCache, scratch_dir: str | None) -> Pyramid:
    """Add to the levels of a source those that it lacks.

    Raises:
        OSError: the levels need a file in ``scratch_dir`` and cannot have it.
        BadImage: the source is damaged.
    """
    full = source.levels[0]
    own = _usable(source.levels)
    cached = CachedSource(source, cache)
    places: list[tuple[TileSource, int]] = [(cached, number) for number in range(len(own))]
    if source.once:
        places.clear()
    scales = [(full.width / level.width, full.height / level.height) for level in own]
    halvings = _halvings(own[-1])
    scales += [(scales[-1][0] * 2**k, scales[-1][1] * 2**k) for k in range(1, halvings + 1)]
    if halvings or source.once:
        built = _build(source, len(own) - 1, halvings, scratch_dir)
        places += [(built, number) for number in range(len(built.levels))]
    return Pyramid(tuple(places), tuple(scales))


def _usable(levels: Sequence[Level]) -> list[Level]:
    """Keep the levels up to the first gap; below it ours are better than none."""
    kept = [levels[0]]
    for level in levels[1:]:
        step = _longer(kept[-1]) / _longer(level)
        if not 1 < step <= WIDEST_STEP or _longer(kept[-1]) <= SMALLEST:
            break
        kept.append(level)
    return kept


def _longer(level: Level) -> int:
    return max(level.height, level.width)


def _halvings(level: Level) -> int:
    """Count the levels to build below one."""
    count = 0
    while ceil(_longer(level) / 2**count) > SMALLEST:
        count += 1
    return count


def _build(source: TileSource, number: int, halvings: int, scratch_dir: str | None) -> ArraySource:
    """Halve a level of a source so many times; a copy of it comes first if it is read only once."""
    base = source.levels[number]
    shapes = [
        (ceil(base.height / 2**k), ceil(base.width / 2**k), source.channels)
        for k in range(halvings + 1)
    ]
    arrays = _reserve(shapes if source.once else shapes[1:], source, scratch_dir)
    copy = arrays[0] if source.once else None
    targets = arrays[1:] if source.once else arrays
    parent, level = source, number
    for k, target in enumerate(targets):
        true = (base.height / 2**k, base.width / 2**k)  # of the parent, in its own pixels
        _halve_level(parent, level, true, target, copy)
        parent, level, copy = ArraySource(target), 0, None
    if copy is not None:  # a small image that needs no coarser level
        for top, left, bottom, right in _blocks(base):
            copy[top:bottom, left:right] = source.read(number, top, left, bottom, right)
    return ArraySource(*arrays, name=source.name)


def _reserve(
    shapes: list[tuple[int, int, int]], source: TileSource, scratch_dir: str | None
) -> list[Pixels]:
    """Make arrays to write to: in memory, or if they are large in one file without a name."""
    counts = [height * width * channels for height, width, channels in shapes]
    dtype, size = source.dtype, sum(counts) * source.dtype.itemsize
    flat: Pixels = np.empty(sum(counts), dtype) if size <= IN_MEMORY else np.empty(0, dtype)
    if size > IN_MEMORY:
        try:
            # unlinked at once, so that it is gone when the map is, however this process ends
            with tempfile.TemporaryFile(dir=scratch_dir, prefix="fovea-") as file:
                _allocate(file.fileno(), size)
                flat = np.asarray(np.memmap(file, dtype, mode="r+", shape=(sum(counts),)))
        except OSError as error:
            place = scratch_dir or tempfile.gettempdir()
            raise OSError(
                f"{source.name}: its coarser levels take {size / 1e6:.0f} MB in {place!r}: "
                f"{error.strerror}; set scratch_dir to a folder that has room"
            ) from error
    starts = np.cumsum([0, *counts])
    return [
        flat[start : start + count].reshape(shape)
        for start, count, shape in zip(starts, counts, shapes, strict=False)
    ]


def _allocate(file: int, size: int) -> None:
    """Give a file its size: a disk that is full is an error now, and not a SIGBUS later."""
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def _blocks(level: Level) -> Iterator[tuple[int, int, int, int]]:
    """Cut a level into blocks of whole tiles, from top to bottom: top, left, bottom, right.

    They begin at multiples of 4, so that 2 x 2 pixels and the dither's pattern are never cut.
    """
    height, width = (lcm(4, side) for side in level.tile or (1, 1))
    width *= max(1, min(-(-level.width // width), _BLOCK // (height * width)))
    height *= max(1, _BLOCK // (height * width))
    for top in range(0, level.height, height):
        for left in range(0, level.width, width):
            yield top, left, min(top + height, level.height), min(left + width, level.width)


def _halve_level(
    source: TileSource,
    number: int,
    true: tuple[float, float],
    target: Pixels,
    copy: Pixels | None,
) -> None:
    """Fill ``target`` with a level's halves and ``copy`` with the level itself."""
    level = source.levels[number]
    tiles = CachedSource(source, TileCache(0))  # blocks are whole tiles: nothing is read twice
    for top, left, bottom, right in _blocks(level):
        block = tiles.read(number, top, left, bottom, right)
        if copy is not None:
            copy[top:bottom, left:right] = block
        shares = (
            _share(bottom, level.height, true[0]),
            _share(right, level.width, true[1]),
        )
        part = target[top // 2 : (bottom + 1) // 2, left // 2 : (right + 1) // 2]
        halve(block, part, shares)


def _share(end: int, size: int, true: float) -> float:
    """Return how much of a block's last pixel lies inside the image."""
    return 1.0 if end < size else true - (size - 1)


def halve(block: Pixels, out: Pixels, shares: tuple[float, float] = (1.0, 1.0)) -> None:
    """Average 2 x 2 pixels: block [h, w, C] -> out [ceil(h / 2), ceil(w / 2), C].

    A sum s becomes floor((s + d) / 4), where d is 0 to 3 by the place in a 2 x 2 pattern (our
    choice), which keeps the mean unless the image follows that pattern. Over six photos, noise and
    flat areas it drifts by up to 0.006 of 255 a level. Rounding a half to even drifts by up to
    0.017 on the photos and 0.17 where few grey levels occur; rounding it up, by 0.13 on all. After
    five levels pixels are off by 0.44 of 255 rms, with a half to even by 0.38, with a half up 0.7.

    ``shares`` say how much of the last row and of the last column lies inside the image; each
    counts by that much.
    """
    wide: Any = np.uint16 if block.dtype.itemsize == 1 else np.uint32
    block = _even(_even(block, 0, shares[0]), 1, shares[1])
    rows = np.add(block[0::2], block[1::2], dtype=wide)  # [h / 2, w, C]
    pattern = np.tile(np.array(_DITHER, wide), (1, -(-out.shape[1] // 2)))[:, : out.shape[1]]
    for channel in range(block.shape[2]):  # numpy is slow along so short an axis
        sums = rows[:, 0::2, channel] + rows[:, 1::2, channel]
        sums[0::2] += pattern[0]
        sums[1::2] += pattern[1]
        sums >>= 2
        out[..., channel] = sums


def _even(block: Pixels, axis: int, share: float) -> Pixels:
    """Make one side even, so that the mean of the last pair counts its second by ``share``."""
    n = block.shape[axis]
    last = block.take([n - 1], axis)
    if n % 2:
        return np.concatenate([block, last], axis)
    if share == 1:
        return block
    before = block.take([n - 2], axis).astype(np.float64)
    mixed = np.rint(before + (last - before) * (2 * share / (1 + share))).astype(block.dtype)
    return np.concatenate([block.take(range(n - 1), axis), mixed], axis)
