"""Whole-slide images through OpenSlide: .svs, .ndpi, .mrxs, .scn, .vms, .bif and others."""

from pathlib import Path

import numpy as np
import openslide

from fovea.extract.tiles import Level, Pixels, TileSource, over_white, refusals

_TILE = 256  # where the file does not say
_LARGEST_TILE = 2048  # strips may be as wide as the slide


class OpenSlideSource(TileSource):
    """A slide: RGB, uint8. What was not scanned is transparent there and white here.

    OpenSlide reads every format as RGB, so a grey one has three equal channels. After the first
    damaged tile it refuses the whole slide, and so does this.
    """

    channels = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, path: str | Path):
        """Open a slide.

        Raises:
            BadImage: it is missing, damaged, or no slide.
        """
        self.path = path
        self.name = repr(str(path))
        with refusals(self.name, openslide.OpenSlideError):
            if openslide.OpenSlide.detect_format(str(path)) is None:
                raise ValueError("not a slide that OpenSlide reads")
            self._slide = openslide.OpenSlide(str(path))
            self.levels = tuple(
                Level(height, width, self._tile(number))
                for number, (width, height) in enumerate(self._slide.level_dimensions)
            )

    def __reduce__(self) -> tuple[type[TileSource], tuple[str | Path]]:
        return OpenSlideSource, (self.path,)

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a region of a level."""
        step = self._slide.level_downsamples[level]
        with refusals(self.name, openslide.OpenSlideError):
            place = (round(left * step), round(top * step))  # OpenSlide wants pixels of level 0
            picture = self._slide.read_region(place, level, (right - left, bottom - top))
            return over_white(np.asarray(picture))

    def _tile(self, level: int) -> tuple[int, int]:
        sides = [
            int(self._slide.properties.get(f"openslide.level[{level}].tile-{side}", _TILE))
            for side in ("height", "width")
        ]
        return min(sides[0], _LARGEST_TILE), min(sides[1], _LARGEST_TILE)
