"""Patches from an integral image: one table per image, then every target pixel costs the same.

``fovea.extract.table`` builds the tables, and one of three readers looks cells up in them: a
compiled loop (numba) on the CPU, a fused kernel (triton) on the GPU, and plain torch anywhere.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from fovea import geometry
from fovea.extract import lattice
from fovea.extract.config import IntegralConfig
from fovea.extract.lattice import Cells
from fovea.extract.table import (
    ENTRIES,
    Buffers,
    build_tables,
    choose_builder,
    scan_tables,
)
from fovea.images import WHITE, Images, as_images
from fovea.interfaces import PatchExtractor, Scene
from fovea.kernels import interprets_triton, is_installed, runs_triton
from fovea.precision import full_precision

Mode = Literal["exact", "nearest"]
Reader = Literal["numba", "triton", "torch"]
_ROUND = 0.5 + 1e-6  # a shared edge at half a pixel rounds up for both its cells


class IntegralExtractor(PatchExtractor):
    """Extractor ``integral``: O(1) per target pixel. Paper, section 3.2 and appendix A."""

    Config = IntegralConfig
    takes_packed_on_device = True

    def __init__(
        self,
        config: IntegralConfig,
        *,
        patch_size: int = 16,
        channels: int | None = None,
        fill: tuple[float, ...] = (0.5,),
    ):
        self.mode: Mode = config.mode
        self.builder = choose_builder(config.table)
        self.reader = config.reader
        self.patch_size = patch_size
        self.channels = channels
        self.fill = fill
        self.buffers = Buffers()

    def prepare(self, images: Images, device: torch.device | str | None = None) -> "IntegralScene":
        """Build the tables of images of any sizes, one after the other in one flat buffer.

        On the CPU for the CPU, on the GPU for the GPU, which is sent the pixels. Float images are
        summed on their device so that gradients reach them.
        """
        target = torch.device(device or "cpu")
        given = as_images(images, self.channels)
        C = given[0].shape[2]
        if len(self.fill) not in (1, C):
            raise ValueError(f"fill has {len(self.fill)} values, but the images have {C} channels")
        sizes = [image.shape[:2] for image in given]
        ends = list(accumulate((H + 1) * (W + 1) for H, W in sizes))
        offsets = [0, *ends[:-1]]
        if target.type != "cpu" or given[0].is_floating_point():
            table = scan_tables([image.to(target, non_blocking=True) for image in given])
        else:
            table = self.buffers.take(ends[-1], C, ENTRIES[given[0].dtype])
            build_tables([image.cpu() for image in given], offsets, table, self.builder)
        return IntegralScene(
            torch.tensor(sizes, device=target),
            table,
            torch.tensor(offsets, device=target),
            torch.tensor(self.fill, dtype=torch.float32, device=target).expand(C).contiguous(),
            given[0].dtype,
            self.patch_size,
            self.mode,
            choose_reader(self.reader, table),
        )

    def describe(self, device: torch.device | str | None = None) -> str:
        """Say what builds the tables of uint8 images, and what reads them, on a device."""
        target = torch.device(device or "cpu")
        reader = choose_reader(self.reader, torch.empty(0, dtype=torch.int32, device=target))
        builder = self.builder if target.type == "cpu" else "torch"
        return f"integral, {self.mode}: tables by {builder}, patches by {reader}"


def choose_reader(setting: Literal["auto", "numba", "triton", "torch"], table: Tensor) -> Reader:
    """Resolve what reads a table: ``auto`` is the fastest that is installed and can.

    The compiled readers know int32 tables (of uint8 pixels) only; torch reads the others.

    Raises:
        ValueError: what is asked for is not installed, or cannot read on this device.
    """
    device = table.device.type
    compiled: Reader = "triton" if device == "cuda" else "numba"
    if setting == "auto":
        usable = runs_triton(table.device) if device == "cuda" else is_installed("numba")
        return compiled if usable and table.dtype == torch.int32 else "torch"
    if setting == "torch" or table.dtype != torch.int32:
        return "torch"
    if not is_installed(setting):
        extra = {"numba": "pip install 'fovea-vit[fast]'", "triton": "it comes with torch for CUDA"}
        raise ValueError(f"extractor.reader: {setting} is not installed; {extra[setting]}")
    if setting == "numba" and device != "cpu":
        raise ValueError(f"extractor.reader: numba reads on the CPU, not on {device}; choose auto")
    if setting == "triton" and device != "cuda" and not interprets_triton():
        raise ValueError(f"extractor.reader: triton reads on CUDA, not on {device}; choose auto")
    return setting


@dataclass(frozen=True, eq=False)
class IntegralScene(Scene):
    """Integral images of a batch in one flat table.

    Attributes:
        sizes: int64 [B, 2], (height, width).
        table: [sum (H+1)(W+1), C]; int32 (wrapping), int64 or float64, see ``fovea.extract.table``.
        offsets: int64 [B], where each image's table begins.
        fill: float32 [C], the colour of what lies outside.
        pixels: dtype of the images.
        patch_size: P.
        mode: ``exact`` or ``nearest``.
        reader: what reads the table.
    """

    sizes: Tensor
    table: Tensor
    offsets: Tensor
    fill: Tensor
    pixels: torch.dtype
    patch_size: int
    mode: Mode
    reader: Reader

    @full_precision()
    def read(self, windows: Tensor) -> Tensor:
        """Read patches: windows [B, N, 3] -> patches [B, N, C, P, P], float32 in [0, 1].

        Float64 from float64 images. The slow meaning: for each cell, the sum over pixels of
        (covered area x value) divided by the covered area; ``fovea.extract.resize`` computes that.
        """
        self._check(windows)
        if self.reader == "numba":
            return self._by_numba(windows)
        if self.reader == "triton":
            one = torch.ones_like(self.fill)
            patches = self._by_triton(windows, 0 * one, one, torch.float32)
        else:
            patches = self._by_torch(windows)
        return patches.view(*windows.shape[:2], *patches.shape[1:])

    @full_precision()
    def tokens(
        self, windows: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Read patches as a patch embedding takes them, on the GPU in one kernel."""
        if self.reader != "triton":
            return super().tokens(windows, mean, std, dtype)
        self._check(windows)
        patches = self._by_triton(windows, mean, std, dtype)
        return patches.view(*windows.shape[:2], math.prod(patches.shape[1:]))

    def _by_torch(self, windows: Tensor) -> Tensor:
        cells = self._cells(windows)
        means = lattice.read_cells(self.table, cells, whole=self.mode == "nearest")
        dtype = torch.float64 if self.pixels == torch.float64 else torch.float32
        means = (means / WHITE[self.pixels]).to(dtype)
        return torch.where(cells.inside(), means, self.fill.to(dtype)[:, None, None])

    def _by_triton(self, windows: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
        from fovea.extract import triton_kernel

        cells = self._cells(windows)
        return triton_kernel.read_cells(self.table, cells, self.fill, mean, std, dtype)

    def _by_numba(self, windows: Tensor) -> Tensor:
        from fovea.extract import numba_kernel

        rounding = _ROUND if self.mode == "nearest" else None
        scene = (self.sizes, self.offsets, self.fill, self.patch_size)
        return numba_kernel.read_windows(self.table, windows, *scene, rounding)

    def _cells(self, windows: Tensor) -> Cells:
        """Divide windows into cells clamped to their images; equal edges mean a cell outside."""
        low, high = geometry.cells(windows, self.sizes, self.patch_size)  # [B, N, 2, P]
        if self.mode == "nearest":  # at least one pixel each: cells are never empty by rounding
            low, high = torch.floor(low + _ROUND), torch.floor(high + _ROUND)
        limit = self.sizes.flip(1)  # [B, 2], (width, height)
        border = limit[:, None, :, None].double()
        low, high = low.clamp(min=0).minimum(border), high.clamp(min=0).minimum(border)
        (B, N, _), P = windows.shape, self.patch_size
        return Cells(
            low.view(B * N, 2, P),
            high.view(B * N, 2, P),
            limit[:, None].expand(B, N, 2).reshape(B * N, 2),
            self.offsets[:, None].expand(B, N).reshape(B * N),
        )

    def _check(self, windows: Tensor) -> None:
        """Refuse windows that cannot be read, and cells whose sums may leave int32."""
        geometry.check_windows(windows, self.sizes)
        small = self.table.dtype != torch.int32 or len(self.table) * 255 < 2**31
        if small or windows.numel() == 0:
            return
        side = geometry.window_sides(windows[..., 2], self.sizes).amax().item() / self.patch_size
        if (side + 1) ** 2 * 255 < 2**31:
            return
        cells = self._cells(windows)  # cut off at the border, they may be smaller
        largest = int((cells.high - cells.low).amax(-1).prod(-1).amax())
        if largest * 255 >= 2**31:
            raise ValueError(
                f"a cell of {largest} pixels may sum to over 2**31 and would wrap: zoom in, "
                f"or use a larger patch_size than {self.patch_size}"
            )
