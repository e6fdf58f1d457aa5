"""Slides that nobody's tissue is on: pyramidal TIFFs to try things with, of any size.

``python -m fovea_wsi.synthetic FOLDER`` writes a train and a val split of two classes.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

STEP = 4  # from each level to the next
_GLASS = (238, 236, 240)
_DYES = ((222, 150, 190), (176, 120, 200))  # of the two classes
_NUCLEI = (84, 56, 130)


@dataclass(frozen=True)
class Synthetic:
    """A slide: round blobs of dyed tissue with darker nuclei, on glass.

    Attributes:
        side: its height and width in pixels, a multiple of ``tile``.
        seed: of the places of its blobs.
        kind: 0 or 1, the dye.
        blobs: how many there are, each with a radius of about a tenth of the side.
        tile: side of the tiles in which it is stored.
    """

    side: int
    seed: int = 0
    kind: int = 0
    blobs: int = 5
    tile: int = 256

    def write(self, file: Path, compression: str | None = "jpeg", whole: bool = True) -> None:
        """Write a tiled TIFF, with its coarser levels in SubIFDs unless ``whole`` is false."""
        sides, count = (self.side, self.side), 0
        while whole and self.side // STEP ** (count + 1) >= self.tile:
            count += 1
        kept = np.zeros((self.side // STEP, self.side // STEP, 3), np.uint8)  # the next level
        tile = self.tile, self.tile
        with tifffile.TiffWriter(file, bigtiff=True) as tiff:
            write = partial(tiff.write, photometric="rgb", tile=tile, compression=compression)
            write(self._tiles(kept), shape=(*sides, 3), dtype=np.uint8, subifds=count)
            for _ in range(count):
                write(kept, subfiletype=1)
                side = len(kept) // STEP * STEP
                kept = _smaller(kept[:side, :side])

    def pixels(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Draw a part of the finest level: -> uint8 [height, width, 3]."""
        y, x = np.arange(top, top + height), np.arange(left, left + width)
        dyed, glass = (one[np.ix_(y % 512, x % 512)] for one in self._patterns)
        return np.where(self.tissue(y, x)[..., None], dyed, glass)

    def tissue(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which pixels are tissue: rows y [h] and columns x [w] -> [h, w]."""
        field = np.zeros((len(y), len(x)), np.float32)
        for centre_x, centre_y, radius in self._blobs * self.side:
            down = np.exp(-(((y + 0.5 - centre_y) / radius) ** 2)).astype(np.float32)
            across = np.exp(-(((x + 0.5 - centre_x) / radius) ** 2)).astype(np.float32)
            field += down[:, None] * across
        return field > np.float32(0.37)  # of one blob alone, a circle of its radius

    def _tiles(self, kept: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Draw tile after tile, and keep them smaller."""
        n = self.tile // STEP
        for row in range(self.side // self.tile):
            for column in range(self.side // self.tile):
                tile = self.pixels(row * self.tile, column * self.tile, self.tile, self.tile)
                kept[row * n : (row + 1) * n, column * n : (column + 1) * n] = _smaller(tile)
                yield tile

    @cached_property
    def _blobs(self) -> NDArray[np.float64]:
        """Return (x, y, radius) of each, as shares of the side."""
        drawn = np.random.default_rng(self.seed).uniform(size=(self.blobs, 3))
        return drawn * (0.7, 0.7, 0.06) + (0.15, 0.15, 0.08)

    @cached_property
    def _patterns(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draw dyed tissue with its nuclei, and glass, as repeated: uint8 [512, 512, 3] each."""
        generator = np.random.default_rng(self.kind)
        grain = generator.integers(-12, 13, (512, 512, 1))
        dyed, glass = np.array(_DYES[self.kind]) + grain, np.array(_GLASS) + grain // 8
        y, x = np.ogrid[-6:7, -6:7]
        disc = y * y + x * x <= 36
        for top, left in generator.integers(0, 499, (160, 2)).tolist():
            dyed[top : top + 13, left : left + 13][disc] = _NUCLEI
        return dyed.astype(np.uint8), glass.astype(np.uint8)


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average 4 x 4 pixels: [H, W, C] -> [H / 4, W / 4, C]."""
    height, width, channels = image.shape
    parts = image.reshape(height // STEP, STEP, width // STEP, STEP, channels)
    sums = parts.sum((1, 3), dtype=np.uint16)
    return np.asarray((sums + STEP * STEP // 2) // STEP**2, np.uint8)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fovea_wsi.synthetic", description="Write synthetic slides."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to")
    parser.add_argument("--side", type=int, default=8192, help="pixels, a multiple of 256 (8192)")
    parser.add_argument("--count", type=int, default=3, help="slides of each class and split (3)")
    arguments = parser.parse_args(argv)
    if arguments.side < 256 or arguments.side % 256:
        parser.error(f"--side: expected a multiple of 256, found {arguments.side}")
    for number in range(4 * arguments.count):
        kind, split = number % 2, ("train", "val")[number // 2 % 2]
        file = arguments.folder / split / ("pink", "violet")[kind] / f"{number}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        Synthetic(arguments.side, number, kind).write(file)
    print(f"{4 * arguments.count} slides are in {arguments.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
