"""Where a slide holds tissue: places of strong colour, found on a coarse level.

Glass is white or grey, stained tissue is not. The mean colour of each cell has a saturation
(max - min) / max, and cells above a threshold are tissue. The threshold is Otsu's, within 0.04 to
0.2: on a slide of glass alone, or of tissue alone, Otsu divides what is one. Grey images are
judged by their darkness instead. All this is our choice; it takes marks of a pen for tissue.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fovea.extract.tiles import Level, TileSource
from fovea_wsi.crop import whole_steps

LOWEST, HIGHEST = 0.04, 0.2
"""Between these a threshold may lie that Otsu's method finds."""
_BLOCK = 1024  # pixels read at once along a side, where a level has no tiles


def tissue_mask(source: TileSource, cell: int, saturation: float | None) -> NDArray[np.bool_]:
    """Find tissue: -> [rows, columns] of the cells of ``cell`` pixels that lie inside the image.

    Args:
        source: the slide; one level of it is read once, tile by tile.
        cell: side of a cell, in pixels of the finest level.
        saturation: above which a cell is tissue; None for Otsu's threshold.

    Raises:
        BadImage: the slide is damaged.
    """
    colours = mean_colours(source, cell)
    if colours.shape[2] == 1:
        strength = 1 - colours[..., 0]
    else:
        high, low = colours.max(2), colours.min(2)
        strength = (high - low) / np.maximum(high, 1e-6)
    if saturation is None:
        saturation = min(max(otsu(strength), LOWEST), HIGHEST)
    mask: NDArray[np.bool_] = strength > saturation
    return mask


def mean_colours(source: TileSource, cell: int) -> NDArray[np.float64]:
    """Average the cells inside an image: -> [rows, columns, C] in 0..1.

    They are read from the coarsest level whose pixels fill cells exactly. The slow meaning: the
    mean over [y * cell : (y + 1) * cell, x * cell : (x + 1) * cell] of that level.
    """
    steps = whole_steps(source)
    step = max(step for step in steps if step and cell % step == 0)
    number, side = steps.index(step), cell // step
    level, full = source.levels[number], source.levels[0]
    sums = np.zeros((-(-level.height // side), -(-level.width // side), source.channels), np.uint64)
    for top, left, bottom, right in _tiles(level):
        rows, columns = _starts(top, bottom, side), _starts(left, right, side)
        pixels = source.read(number, top, left, bottom, right)
        lines = np.add.reduceat(pixels, rows - top, axis=0, dtype=np.uint64)
        parts = np.add.reduceat(lines, columns - left, axis=1)
        y, x = top // side, left // side
        sums[y : y + len(rows), x : x + len(columns)] += parts
    inside = sums[: full.height // cell, : full.width // cell]
    white = int(np.iinfo(source.dtype).max)
    return inside / float(side * side * white)


def otsu(values: NDArray[np.float64]) -> float:
    """Return the threshold that divides values in 0..1 best, of 256: Otsu's, 1979."""
    counts, edges = np.histogram(values, bins=256, range=(0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum(), counts[::-1].cumsum()[::-1]
    low = (counts * centres).cumsum() / np.maximum(below, 1)
    high = (counts * centres)[::-1].cumsum()[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (low[:-1] - high[1:]) ** 2
    best = np.flatnonzero(between == between.max(initial=0))
    return float(edges[1:-1][best].mean()) if len(best) else 0.0


def _tiles(level: Level) -> Iterator[tuple[int, int, int, int]]:
    """Cut a level into its tiles: top, left, bottom, right."""
    height, width = level.tile or (_BLOCK, _BLOCK)
    for top in range(0, level.height, height):
        for left in range(0, level.width, width):
            yield top, left, min(top + height, level.height), min(left + width, level.width)


def _starts(first: int, end: int, side: int) -> NDArray[np.int64]:
    """List where cells begin between two pixels; the first may have begun before."""
    return np.array([first, *range((first // side + 1) * side, end, side)])
