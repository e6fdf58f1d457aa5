"""Large pictures through libvips: JPEG, PNG, JPEG 2000 and others that are decoded from the top."""

from pathlib import Path

import numpy as np
import pyvips

from fovea.extract.tiles import Level, Pixels, TileSource, refusals

_ROWS = 64  # decoded at a time
_LUMA = [[0.299, 0.587, 0.114]]  # ITU-R 601, as in fovea.images


class VipsSource(TileSource):
    """A picture decoded once, in strips; uint8, and otherwise as ``fovea.images`` brings it in.

    Transparent pixels are laid over white and the EXIF orientation is applied (a rotated picture is
    first decoded by libvips, above 100 MB into a temporary file of its own). Of other
    than 8-bit RGB and grey, pixels may differ by 1/255 from those of ``fovea.images``.
    """

    dtype = np.dtype(np.uint8)
    once = True

    def __init__(self, path: str | Path, channels: int | None = None):
        """Open a picture as 1 (grey) or 3 channels; None: 3.

        Raises:
            BadImage: it is missing, damaged or of no known format.
            ValueError: ``channels`` is something else.
        """
        if channels not in (None, 1, 3):
            raise ValueError(f"channels: expected 1 or 3, got {channels}")
        self.path = path
        self.name = repr(str(path))
        self.channels = channels or 3
        with refusals(self.name, pyvips.Error):
            self._region = pyvips.Region.new(self._opened())
        self.levels = (Level(self._height, self._width, (_ROWS, self._width)),)

    def __reduce__(self) -> tuple[type[TileSource], tuple[str | Path, int]]:
        return VipsSource, (self.path, self.channels)

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read the next strip."""
        height, width = bottom - top, right - left
        with refusals(self.name, pyvips.Error):
            strip = self._region.fetch(left, top, width, height)
            return np.frombuffer(strip, np.uint8).reshape(height, width, self.channels)

    def _opened(self) -> pyvips.Image:
        """Describe how the file becomes 8-bit pixels; they are computed as they are fetched."""
        picture = pyvips.Image.new_from_file(str(self.path), access="sequential", fail_on="error")
        if _turned(picture):  # which cannot be done from the top
            picture = pyvips.Image.new_from_file(str(self.path), fail_on="error").autorot()
        picture = picture.colourspace("srgb")
        if picture.hasalpha():
            mixed = picture.cast("float").flatten(background=255, max_alpha=255)
            picture = mixed.rint()  # of integers it would cut off what is after the point
        if self.channels == 1:
            picture = picture.recomb(_LUMA).rint()
        picture = picture.cast("uchar")
        self._height, self._width = picture.height, picture.width
        return picture


def _turned(picture: pyvips.Image) -> bool:
    return "orientation" in picture.get_fields() and picture.get("orientation") != 1
