"""Patches from an integral image: one table per image, then every target pixel costs the same.

The table holds, for each pixel corner, the sum of all pixels above and to the left of it. It is
int32 and wraps around: since wrapping is arithmetic modulo 2**32, the sum of a box, a difference
of four entries, is exact as long as that box alone sums to less than 2**31. Nothing is lost to
rounding, whatever the size of the image, where a float32 table would be off by whole grey levels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fovea import geometry
from fovea.extract.config import IntegralConfig
from fovea.images import Array, Images, as_images
from fovea.interfaces import PatchExtractor, Scene
from fovea.precision import full_precision

Mode = Literal["exact", "nearest"]
_ROUND = 0.5 + 1e-6  # a shared edge at half a pixel rounds up for both its cells
_WIDEST = 64  # window sides overflow long after this many doublings
_CHUNK = 512  # patches read at a time: their lattices then stay in the cache


class IntegralExtractor(PatchExtractor):
    """Extractor ``integral``: O(1) per target pixel. Paper, section 3.2 and appendix A."""

    Config = IntegralConfig

    def __init__(
        self,
        config: IntegralConfig,
        *,
        patch_size: int = 16,
        channels: int | None = None,
        fill: tuple[float, ...] = (0.5,),
    ):
        self.mode: Mode = config.mode
        self.patch_size = patch_size
        self.channels = channels
        self.fill = fill

    def prepare(self, images: Images, device: torch.device | str | None = None) -> "IntegralScene":
        """Build the tables of images of any sizes, one after the other in one flat buffer."""
        arrays = [image.cpu().numpy() for image in as_images(images, self.channels)]
        C = arrays[0].shape[2]
        if len(self.fill) not in (1, C):
            raise ValueError(f"fill has {len(self.fill)} values, but the images have {C} channels")
        sizes = torch.tensor([array.shape[:2] for array in arrays])
        entries = (sizes + 1).prod(1)
        table = torch.empty(int(entries.sum()), C, dtype=torch.int32)
        offsets = entries.cumsum(0) - entries
        for array, offset, count in zip(arrays, offsets.tolist(), entries.tolist(), strict=True):
            build_table(array, table[offset : offset + count])
        fill = torch.tensor(self.fill, dtype=torch.float32).expand(C)
        return IntegralScene(
            sizes.to(device),
            table.to(device),
            offsets.to(device),
            fill.to(device),
            self.patch_size,
            self.mode,
        )


def build_table(image: Array, out: Tensor) -> None:
    """Sum up an image uint8 [H, W, C] into out int32 [(H+1) * (W+1), C].

    ``out[y, x]`` becomes ``image[:y, :x].sum()`` modulo 2**32: rows are added in numpy, which
    streams them, then scanned along the width in place.
    """
    H, W, C = image.shape
    table = out.view(H + 1, W + 1, C)
    table[0] = 0
    table[:, 0] = 0
    rows = table.numpy()
    for y in range(H):
        np.add(rows[y, 1:], image[y], out=rows[y + 1, 1:])
    table.cumsum_(1)


@dataclass(frozen=True, eq=False)
class IntegralScene(Scene):
    """Integral images of a batch in one flat table.

    Attributes:
        sizes: int64 [B, 2], (height, width).
        table: int32 [sum (H+1)(W+1), C], wrapping.
        offsets: int64 [B], where each image's table begins.
        fill: float32 [C], the colour of what lies outside.
        patch_size: P.
        mode: ``exact`` or ``nearest``.
    """

    sizes: Tensor
    table: Tensor
    offsets: Tensor
    fill: Tensor
    patch_size: int
    mode: Mode

    @full_precision()
    def read(self, windows: Tensor) -> Tensor:
        """Read patches: windows [B, N, 3] -> patches [B, N, C, P, P], float32 in [0, 1].

        The slow meaning: for each cell, the sum over pixels of (covered area x value) divided by
        the covered area. ``fovea.extract.resize`` computes just that.
        """
        check_windows(windows, self.sizes)
        B, N, _ = windows.shape
        C, P = self.table.shape[1], self.patch_size
        low, high = self._cells(windows)  # [B, N, 2, P]
        owner = torch.arange(B, device=windows.device).repeat_interleave(N)
        out = torch.empty(B * N, C, P, P, device=windows.device)
        low, high = low.flatten(0, 1), high.flatten(0, 1)
        for start in range(0, B * N, _CHUNK):
            part = slice(start, start + _CHUNK)
            out[part] = self._read(low[part], high[part], owner[part])
        return out.view(B, N, C, P, P)

    def _cells(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Cell edges clamped to the image; equal edges mean a cell outside."""
        low, high = geometry.cells(windows, self.sizes, self.patch_size)
        if self.mode == "nearest":  # at least one pixel each: cells are never empty by rounding
            low, high = torch.floor(low + _ROUND), torch.floor(high + _ROUND)
        limit = self.sizes.flip(1)[:, None, :, None].double()
        low, high = low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)
        largest = (high - low).amax(-1).prod(-1).max() if low.numel() else low.new_zeros(())
        if largest * 255 >= 2**31:
            raise ValueError(
                f"a cell of {int(largest)} pixels may sum to over 2**31 and would wrap: zoom in, "
                f"or use a larger patch_size than {self.patch_size}"
            )
        return low, high

    def _read(self, low: Tensor, high: Tensor, owner: Tensor) -> Tensor:
        """Read a chunk: edges [n, 2, P], owner [n] -> [n, C, P, P]."""
        n, _, P = low.shape
        C = self.table.shape[1]
        lines = self._lines(low, high)  # [n, 2, L], pixel corners to read at
        weights = _weights(lines, low, high)  # [n, 2, P, L-1]
        lattice = self._lattice(lines, owner)  # [n, L, L, C]
        strips = lattice[:, 1:] - lattice[:, :-1]
        boxes = (strips[:, :, 1:] - strips[:, :, :-1]).float()  # [n, L-1 (y), L-1 (x), C]
        L = boxes.shape[1]
        rows = torch.bmm(weights[:, 1], boxes.view(n, L, L * C))  # [n, P, (x, C)]
        rows = rows.view(n, P, L, C).permute(0, 3, 1, 2).reshape(n, C * P, L)
        sums = torch.bmm(rows, weights[:, 0].transpose(1, 2)).view(n, C, P, P)
        return torch.where(self._inside(low, high), sums / 255, self.fill[:, None, None])

    def _lines(self, low: Tensor, high: Tensor) -> Tensor:
        """Choose the pixel corners [n, 2, L] between which every cell edge is resolved.

        Where cells are wider than a pixel these are the corners around each shared edge; where
        they overlap (a patch that enlarges), all corners from the first on, one pixel apart.
        """
        first = low[..., :1].floor()
        edges = torch.cat([low, high[..., -1:]], dim=-1)  # [n, 2, P+1]
        if self.mode == "exact":
            around = torch.stack([edges.floor(), edges.floor() + 1], dim=-1).flatten(-2)
        else:
            around = torch.cat([edges, edges[..., -1:]], dim=-1)
        steps = torch.arange(around.shape[-1], device=low.device, dtype=low.dtype)
        overlap = (high[..., :-1] > low[..., 1:] + 1e-9).any(-1, keepdim=True)
        lines = torch.where(overlap, first + steps, around)
        return lines.cummax(-1).values  # edges clamped to one border would go back and forth

    def _lattice(self, lines: Tensor, owner: Tensor) -> Tensor:
        """Look the table up at the crossings of lines [n, 2, L] -> int32 [n, L, L, C]."""
        sizes = self.sizes[owner]
        corner = lines.long().minimum(sizes.flip(1)[:, :, None])
        stride = sizes[:, 1] + 1
        rows = self.offsets[owner][:, None] + corner[:, 1] * stride[:, None]
        index = rows[:, :, None] + corner[:, 0][:, None, :]
        n, L, _ = index.shape
        return self.table.index_select(0, index.flatten()).view(n, L, L, -1)

    def _inside(self, low: Tensor, high: Tensor) -> Tensor:
        """Say which cells touch their image: [n, 2, P] -> [n, 1, P, P]."""
        touch = high > low
        return (touch[:, 1, :, None] & touch[:, 0, None, :])[:, None]


def _weights(lines: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Share of each box in each cell's mean, one axis: [n, 2, P, L-1], float32.

    A cell's mean is the sum over boxes of (length of the overlap / length of the box / length of
    the cell); boxes that a cell covers in part are one pixel wide, so this is exact.
    """
    left, right = lines[:, :, None, :-1], lines[:, :, None, 1:]
    covered = (torch.minimum(right, high[..., None]) - torch.maximum(left, low[..., None])).clamp(0)
    length = (right - left).clamp(min=1) * (high - low).clamp(min=1e-12)[..., None]
    return (covered / length).float()


def check_windows(windows: Tensor, sizes: Tensor) -> None:
    """Refuse windows that cannot be read, with a ValueError that says why."""
    if windows.ndim != 3 or windows.shape[-1] != 3:
        raise ValueError(f"windows must be [B, N, 3], got {list(windows.shape)}")
    if len(windows) != len(sizes):
        raise ValueError(f"windows are for {len(windows)} images, the scene has {len(sizes)}")
    if not torch.isfinite(windows).all():
        raise ValueError("windows (or the gaze they come from) are not all finite numbers")
    if (windows[..., 2] < -_WIDEST).any():
        lowest = windows[..., 2].min().item()
        raise ValueError(f"windows have a zoom of {lowest:g}; expected {-_WIDEST} or more")
