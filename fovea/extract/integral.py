"""Patches from an integral image: one table per image, then every target pixel costs the same.

``fovea.extract.table`` builds the tables, and one of three readers looks cells up in them: a
compiled loop (numba) on the CPU, a fused kernel (triton) on the GPU, and plain torch anywhere.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fovea import geometry
from fovea.extract import lattice
from fovea.extract.config import IntegralConfig
from fovea.extract.lattice import Cells
from fovea.extract.table import (
    ENTRIES,
    LARGEST_CELL,
    Buffers,
    Layout,
    build_tables,
    choose_builder,
    scan_tables,
    send,
)
from fovea.images import WHITE, Images, Packed, as_images, as_packed
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

        On the CPU for the CPU, on the GPU for the GPU. That is sent uint8 pixels in one buffer,
        without waiting for it; ``Packed`` images that are there already stay where they are. Float
        images are summed on their device so that gradients reach them.
        """
        target = torch.device(device or "cpu")
        if target.type == "cpu" and self.reader != "triton":  # which is interpreted on the CPU
            given: Packed | list[Tensor] = as_images(images, self.channels)
        else:
            given = as_packed(images, self.channels)
        if isinstance(given, Packed):
            layout, pixels = Layout.of(given.shapes), torch.uint8
        else:
            layout, pixels = Layout.of([image.shape for image in given]), given[0].dtype
        C = layout.channels
        if len(self.fill) not in (1, C):
            raise ValueError(f"fill has {len(self.fill)} values, but the images have {C} channels")
        reader = choose_reader(self.reader, target, pixels)
        there = layout.to(target)
        table = self._build(given, layout, there, reader)
        fill = torch.tensor(self.fill, dtype=torch.float32).expand(C).contiguous()
        return IntegralScene(
            there.sizes,
            table,
            there.offsets,
            send(fill, target),
            pixels,
            self.patch_size,
            self.mode,
            reader,
        )

    def _build(
        self, given: Packed | list[Tensor], layout: Layout, there: Layout, reader: Reader
    ) -> Tensor:
        """Build the tables of images, laid out on the CPU and on the device: [entries, C]."""
        target = there.sizes.device
        if isinstance(given, Packed):
            pixels = send(given.pixels, target)
            if reader != "triton":
                return scan_tables(Packed(pixels, given.shapes).tensors())
            from fovea.extract import triton_kernel

            return triton_kernel.build_tables(pixels, there)
        if target.type != "cpu" or given[0].is_floating_point():
            return scan_tables([image.to(target, non_blocking=True) for image in given])
        table = self.buffers.take(layout.entries, layout.channels, ENTRIES[given[0].dtype])
        images = [image.cpu() for image in given]
        build_tables(images, layout.offsets.tolist(), table, self.builder)
        return table

    def describe(self, device: torch.device | str | None = None) -> str:
        """Say what builds the tables of uint8 images, and what reads them, on a device."""
        target = torch.device(device or "cpu")
        reader = choose_reader(self.reader, target, torch.uint8)
        builder = "triton" if reader == "triton" else "torch"
        if target.type == "cpu" and reader != "triton":
            builder = self.builder
        return f"integral, {self.mode}: tables by {builder}, patches by {reader}"


def choose_reader(
    setting: Literal["auto", "numba", "triton", "torch"], device: torch.device, pixels: torch.dtype
) -> Reader:
    """Resolve what reads tables on a device: ``auto`` is the fastest that is installed and can.

    The compiled readers know int32 tables, of uint8 pixels, only; torch reads the others. Where it
    is triton, triton builds the tables too.

    Raises:
        ValueError: what is asked for is not installed, or cannot read on this device.
    """
    place = device.type
    if setting == "torch" or pixels != torch.uint8:
        return "torch"
    if setting == "auto":
        if place == "cuda":
            return "triton" if runs_triton(device) else "torch"
        return "numba" if place == "cpu" and is_installed("numba") else "torch"
    if not is_installed(setting):
        extra = {"numba": "pip install 'fovea-vit[fast]'", "triton": "it comes with torch for CUDA"}
        raise ValueError(f"extractor.reader: {setting} is not installed; {extra[setting]}")
    if setting == "numba" and place != "cpu":
        raise ValueError(f"extractor.reader: numba reads on the CPU, not on {place}; choose auto")
    if setting == "triton" and place != "cuda" and not interprets_triton():
        raise ValueError(f"extractor.reader: triton reads on CUDA, not on {place}; choose auto")
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
            return self._by_triton(windows)
        if windows.device.type == "cpu":
            return self._by_torch(windows)
        return self._by_torch_unchecked(windows)

    @full_precision()
    def tokens(
        self, windows: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Read patches as a patch embedding takes them, on the GPU in one kernel."""
        if self.reader != "triton":
            return super().tokens(windows, mean, std, dtype)
        self._check(windows)
        return self._by_triton(windows, (mean, std), dtype).flatten(2)

    def _by_torch(self, windows: Tensor) -> Tensor:
        cells = self._cells(windows)
        means = lattice.read_cells(self.table, cells, whole=self.mode == "nearest")
        dtype = torch.float64 if self.pixels == torch.float64 else torch.float32
        means = (means / WHITE[self.pixels]).to(dtype)
        patches = torch.where(cells.inside(), means, self.fill.to(dtype)[:, None, None])
        return patches.view(*windows.shape[:2], *patches.shape[1:])

    def _by_torch_unchecked(self, windows: Tensor) -> Tensor:
        """Read NaN from the windows that ``_check`` would refuse if it looked at their numbers."""
        sound = windows.isfinite().all(-1) & (windows[..., 2] >= -geometry.WIDEST)  # [B, N]
        windows = torch.where(sound[..., None], windows, 0.0)
        patches = self._by_torch(windows)
        if self._may_wrap():
            fits = self._cells(windows).largest() < LARGEST_CELL + 1
            sound = sound & fits.view_as(sound)
        return torch.where(sound[..., None, None, None], patches, math.nan)

    def _by_triton(
        self,
        windows: Tensor,
        normal: tuple[Tensor, Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        from fovea.extract import triton_kernel

        scene = (self.sizes, self.offsets, self.fill, self.patch_size)
        return triton_kernel.read_windows(
            self.table, windows, *scene, self._rounding(), normal, dtype
        )

    def _by_numba(self, windows: Tensor) -> Tensor:
        from fovea.extract import numba_kernel

        scene = (self.sizes, self.offsets, self.fill, self.patch_size)
        return numba_kernel.read_windows(self.table, windows, *scene, self._rounding())

    def _rounding(self) -> float | None:
        return _ROUND if self.mode == "nearest" else None

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

    def _may_wrap(self) -> bool:
        return self.table.dtype == torch.int32 and len(self.table) > LARGEST_CELL

    def _check(self, windows: Tensor) -> None:
        """Refuse windows that cannot be read, and cells whose sums may leave int32.

        On a GPU only by their shape: to know their numbers, the host would have to wait.
        """
        geometry.check_windows(windows, self.sizes)
        if windows.device.type != "cpu" or windows.numel() == 0 or not self._may_wrap():
            return
        side = geometry.window_sides(windows[..., 2], self.sizes).amax().item() / self.patch_size
        if (side + 1) ** 2 <= LARGEST_CELL:
            return
        largest = int(self._cells(windows).largest().amax())  # cut off at the border
        if largest > LARGEST_CELL:
            raise ValueError(
                f"a cell of {largest} pixels may sum to over 2**31 and would wrap: zoom in, "
                f"or use a larger patch_size than {self.patch_size}"
            )
