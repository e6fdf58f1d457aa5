"""A rectangle of an image that is read in parts, at all the resolutions of that image."""

from math import log2

from fovea.extract.tiles import CachedSource, Level, Pixels, TileCache, TileSource

_CACHE = 16_000_000  # bytes of decoded tiles: about 80 of 256 x 256 pixels


class Crop(TileSource):
    """A rectangle of another source, of which nothing outside is seen.

    Its levels are those of the source whose pixels fill it exactly: a level of 1/16 is left out
    where an edge lies at no multiple of 16. Tiles that lie across its edges are decoded whole, and
    up to 16 MB of them are kept.
    """

    def __init__(self, source: TileSource, left: int, top: int, width: int, height: int, name: str):
        """Take a rectangle, in pixels of the source's finest level.

        Raises:
            ValueError: it is empty or leaves the image, or the source can be read only once.
        """
        full = source.levels[0]
        inside = 0 <= left < left + width <= full.width and 0 <= top < top + height <= full.height
        if not inside:
            place = f"{width} x {height} pixels at ({left}, {top})"
            raise ValueError(f"{name}: {place} do not lie within {full.width} x {full.height}")
        if source.once:
            raise ValueError(f"{name}: {source.name} is read from top to bottom, not in parts")
        self.source, self.box, self.name = source, (left, top, width, height), name
        self.channels, self.dtype = source.channels, source.dtype
        self.steps = [
            (number, step)
            for number, step in enumerate(whole_steps(source))
            if step and not any(side % step for side in self.box)
        ]
        self.levels = tuple(Level(height // step, width // step) for _, step in self.steps)
        self._tiles = CachedSource(source, TileCache(_CACHE))

    def __reduce__(self) -> tuple[type[TileSource], tuple[object, ...]]:
        return Crop, (self.source, *self.box, self.name)

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a region of a level."""
        number, step = self.steps[level]
        x, y = self.box[0] // step, self.box[1] // step
        return self._tiles.read(number, y + top, x + left, y + bottom, x + right)


def whole_steps(source: TileSource) -> list[int]:
    """Tell how many pixels of the image make one of each level; 0 where it is no whole number.

    Levels have their sizes rounded up or down. A power of two is preferred where several fit.
    """
    return [_whole_step(source.levels[0], level) for level in source.levels]


def _whole_step(full: Level, level: Level) -> int:
    ratio = full.width / level.width
    sides = ((full.width, level.width), (full.height, level.height))
    for step in (2 ** round(log2(ratio)), round(ratio)):
        if all(short in (side // step, -(-side // step)) for side, short in sides):
            return step
    return 0
