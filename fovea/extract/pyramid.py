"""Patches from a pyramid of levels: for images that are never read whole.

Of an image only what the windows need is read: from the coarsest level that still has
``pixels_per_cell`` pixels along a target cell's side. So a glimpse at a slide of a gigapixel
touches about as many bytes as one at a small photo.

Where no coarser level has as many, the image itself is read and patches are exact (within 1e-5).
Elsewhere the borders of cells run through averaged pixels. Against exact averages, on six photos of
0.1 to 0.3 megapixels (four of scikit-image, two of scikit-learn; windows and zooms drawn uniformly,
8 x 8 cells, in units of 1/255), cells are off by

================  ===================  =============  ==================
pixels_per_cell   rms, by photo        most           rms, of cut cells
================  ===================  =============  ==================
2 (the default)   1.1 to 2.2           27             2.6
4                 0.4 to 0.9           12             1.4
8                 0.2 to 0.4           6              0.6
================  ===================  =============  ==================

A cell that the border cuts down to a sliver may be off by 80: it then shows the last pixels of the
level, and not of the image. Levels that a file brings are taken as they are. They are assumed to
show the whole image: if a program cut off what did not fill a pixel, the far edge is off by up to
one pixel of that level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fovea import geometry
from fovea.extract.config import PyramidConfig
from fovea.extract.levels import SMALLEST, Pyramid, complete
from fovea.extract.sources import as_sources
from fovea.extract.tiles import TileCache
from fovea.geometry import check_windows
from fovea.images import Images
from fovea.interfaces import PatchExtractor, Scene
from fovea.precision import full_precision

_CHUNK = 32  # windows averaged at a time: their pixels then stay in the cache
_ROUND_TO = 8  # sides of regions are rounded up to this, so that most windows share one shape


class PyramidExtractor(PatchExtractor):
    """Extractor ``pyramid``: reads only what windows need, from files of any size."""

    Config = PyramidConfig

    def __init__(
        self,
        config: PyramidConfig,
        *,
        patch_size: int = 16,
        channels: int | None = None,
        fill: tuple[float, ...] = (0.5,),
    ):
        self.pixels_per_cell = config.pixels_per_cell
        self.cache_bytes = config.cache_mb * 10**6
        self.scratch_dir = config.scratch_dir
        self.patch_size = patch_size
        self.channels = channels
        self.fill = fill

    def prepare(self, images: Images, device: torch.device | str | None = None) -> "PyramidScene":
        """Open images, and build the coarser levels of those that have none.

        An image is a path, a ``TileSource``, or in memory, uint8 or uint16.

        Raises:
            BadImage: a file is missing, damaged or no image.
            ValueError: an image of another kind, dtype, shape or number of channels.
            ImportError: a format needs a library that is not installed; it says which.
            OSError: the built levels find no room in ``scratch_dir``.
        """
        sources = as_sources(images, self.channels)
        C = self.channels or sources[0].channels
        if len(self.fill) not in (1, C):
            raise ValueError(f"fill has {len(self.fill)} values, but the images have {C} channels")
        cache = TileCache(self.cache_bytes)
        pyramids = tuple(complete(source, cache, self.scratch_dir) for source in sources)
        full = [source.levels[0] for source in sources]
        return PyramidScene(
            torch.tensor([(level.height, level.width) for level in full], device=device),
            pyramids,
            _padded([pyramid.scales for pyramid in pyramids], math.inf),
            _padded([pyramid.sizes for pyramid in pyramids], 1.0),
            torch.tensor([float(np.iinfo(source.dtype).max) for source in sources]),
            torch.tensor(self.fill, dtype=torch.float32, device=device).expand(C),
            self.patch_size,
            self.pixels_per_cell,
        )


@dataclass(frozen=True, eq=False)
class PyramidScene(Scene):
    """Images of a batch, each with all its levels; patches come from the device of ``fill``.

    It keeps files open: read it from one thread, in the process that prepared it.

    Attributes:
        sizes: int64 [B, 2], (height, width).
        pyramids: one per image.
        scales: float64 [B, L, 2], see ``Pyramid``; infinite after an image's last level.
        limits: float64 [B, L, 2], (width, height) of each level.
        whites: float32 [B], the number that stands for white in each image's pixels.
        fill: float32 [C], the colour of what lies outside.
        patch_size: P.
        pixels_per_cell: fewest pixels of a level along a cell's side.
    """

    sizes: Tensor
    pyramids: tuple[Pyramid, ...]
    scales: Tensor
    limits: Tensor
    whites: Tensor
    fill: Tensor
    patch_size: int
    pixels_per_cell: float

    @full_precision()
    def read(self, windows: Tensor) -> Tensor:
        """Read patches: windows [B, N, 3] -> patches [B, N, C, P, P], float32 in [0, 1].

        The slow meaning: ``fovea.extract.resize``, over the pixels of each window's level. A patch
        does not depend on the other windows and images of the call.

        Raises:
            ValueError: the windows are not finite, or their shape does not fit the scene.
            BadImage: a part of a file that is needed is damaged.
        """
        windows = windows.cpu()  # the host decodes what they need, and so waits for a GPU's
        check_windows(windows, self.sizes)
        B, N, _ = windows.shape
        C, P = len(self.fill), self.patch_size
        regions = self._regions(windows, self.sizes.cpu())
        out = torch.empty(B * N, C, P, P, device=self.fill.device)
        for side in regions.side.unique().tolist():
            same = (regions.side == side).nonzero()[:, 0]
            for chunk in same.split(_CHUNK):
                out[chunk.to(out.device)] = self._average(regions.take(chunk), side)
        return out.view(B, N, C, P, P)

    def _regions(self, windows: Tensor, sizes: Tensor) -> "_Regions":
        """Find where each window is read: its level, and its cells in pixels of that level."""
        B, N, _ = windows.shape
        low, high = geometry.cells(windows, sizes, self.patch_size)  # [B, N, 2, P]
        border = sizes.flip(1)[:, None, :, None].double()
        low, high = low.clamp(min=0).minimum(border), high.clamp(min=0).minimum(border)
        pitch = geometry.window_sides(windows[..., 2], sizes) / self.patch_size  # [B, N]
        cell = pitch.clamp(min=1)
        fine = cell[..., None] / self.scales.amax(-1)[:, None, :] >= self.pixels_per_cell - 1e-9
        level = (fine.sum(-1) - 1).clamp(min=0)
        image = torch.arange(B)[:, None].expand(B, N)
        scale, limit = self.scales[image, level], self.limits[image, level]  # [B, N, 2]
        low, high = low / scale[..., None], high / scale[..., None]
        first, last = low[..., 0].floor(), high[..., -1].ceil()
        # as if no border cut the patch: all windows of one zoom are then averaged in one shape
        extent = ((self.patch_size - 1) * pitch + cell) / scale.amin(-1)
        side = (extent + 1e-6).ceil().add(1).minimum(limit.amax(-1).clamp(min=SMALLEST))
        side = side.div(_ROUND_TO).ceil().mul(_ROUND_TO).long()
        whites = self.whites[:, None].expand(B, N)
        box = torch.cat([first.minimum(limit), last.minimum(limit)], -1).long()
        place = torch.cat([image[..., None], level[..., None], box], -1)
        return _Regions(*(t.flatten(0, 1) for t in (place, side, low, high, whites)))

    def _average(self, regions: "_Regions", side: int) -> Tensor:
        """Average the cells of n windows whose regions fit side x side: -> [n, C, P, P]."""
        n, C, P, S = len(regions.side), len(self.fill), self.patch_size, side
        device = self.fill.device
        across, down = regions.weights(S).to(device).unbind(1)  # [n, P, S]
        pixels = self._pixels(regions.place.tolist(), side).to(device).float()  # [n, S, S, C]
        rows = torch.bmm(down, pixels.view(n, S, S * C)).view(n, P, S, C)
        rows = rows.permute(0, 3, 1, 2).reshape(n, C * P, S)
        mean = torch.bmm(rows, across.transpose(1, 2)).view(n, C, P, P).clamp_(0, 1)
        return torch.where(regions.inside().to(device), mean, self.fill[:, None, None])

    def _pixels(self, places: list[list[int]], side: int) -> Tensor:
        """Read regions into the upper left of squares: -> [n, side, side, C], else undefined."""
        dtype = np.uint8 if self.whites.max() <= 255 else np.uint16
        out = np.empty((len(places), side, side, len(self.fill)), dtype)
        for square, (image, level, left, top, right, bottom) in zip(out, places, strict=True):
            if right > left and bottom > top:
                region = self.pyramids[image].read(level, top, left, bottom, right)
                square[: bottom - top, : right - left] = region
        return torch.from_numpy(out)


@dataclass(frozen=True)
class _Regions:
    """Where n windows are read.

    Attributes:
        place: int64 [n, 6]: image, level, left, top, right, bottom, in pixels of the level.
        side: int64 [n], of the square in which the region is averaged.
        low, high: float64 [n, 2, P], edges of the cells, cut at the border; x, then y.
        whites: float32 [n], the number that stands for white.
    """

    place: Tensor
    side: Tensor
    low: Tensor
    high: Tensor
    whites: Tensor

    def take(self, chosen: Tensor) -> "_Regions":
        """Return some of the windows, by their numbers."""
        fields = (self.place, self.side, self.low, self.high, self.whites)
        return _Regions(*(field[chosen] for field in fields))

    def weights(self, side: int) -> Tensor:
        """Share of each row and column of a region in each cell's mean: [n, 2, P, side]."""
        first = self.place[:, 2:4, None]
        pixel = torch.arange(side, dtype=torch.float64)
        before = ((self.low - first)[..., None] - pixel).clamp_(0, 1)
        covered = ((self.high - first)[..., None] - pixel).clamp_(0, 1).sub_(before)
        covered *= (1 / (self.high - self.low).clamp(min=1e-12))[..., None]
        weights = covered.float()
        weights[:, 1] /= self.whites[:, None, None]
        return weights

    def inside(self) -> Tensor:
        """Say which cells touch their image: [n, 1, P, P]."""
        touch = self.high > self.low
        return (touch[:, 1, :, None] & touch[:, 0, None, :])[:, None]


def _padded(rows: Sequence[Sequence[tuple[float, float]]], value: float) -> Tensor:
    """Stack lists of pairs of different lengths: -> float64 [B, longest, 2]."""
    out = torch.full((len(rows), max(len(row) for row in rows), 2), value, dtype=torch.float64)
    for b, row in enumerate(rows):
        out[b, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return out
