"""Cells read from integral images with torch: the plain path, on any device and of any dtype.

A cell's mean is the sum, over boxes of whole pixels, of (box sum x share of the box that the cell
covers), divided by the cell's area. A patch needs a lattice of corners, since cells share edges.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 64  # patches read at a time on the CPU: their lattices then stay in the cache
_CHUNK_ON_GPU = 4096  # elsewhere: bounds the memory, and there are few launches


@dataclass(frozen=True)
class Cells:
    """The target cells of n windows, clamped to their images, and where those lie in the table.

    Attributes:
        low, high: float64 [n, 2, P], pixel edges; the second axis is x, y. Equal edges: outside.
        limit: int64 [n, 2], (width, height) of the image.
        first: int64 [n], index of the image's first table entry.
    """

    low: Tensor
    high: Tensor
    limit: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.first)

    def inside(self) -> Tensor:
        """Say which cells touch their image: bool [n, 1, P, P]."""
        touch = self.high > self.low
        return (touch[:, 1, :, None] & touch[:, 0, None, :])[:, None]

    def largest(self) -> Tensor:
        """Measure the largest cell of each window, in pixels: float64 [n]."""
        return (self.high - self.low).amax(-1).prod(-1)

    def part(self, start: int, stop: int) -> "Cells":
        """Take windows start..stop."""
        one = slice(start, stop)
        return Cells(self.low[one], self.high[one], self.limit[one], self.first[one])


def read_cells(table: Tensor, cells: Cells, whole: bool) -> Tensor:
    """Average cells: table [entries, C] -> means [n, C, P, P], in units of the pixels.

    Float64 from a float64 table, with gradients; else float32. A cell outside is 0.

    Args:
        table: of ``fovea.extract.table``.
        cells: n windows.
        whole: edges lie between pixels, so that half as many corners do.
    """
    chunk = _CHUNK if table.device.type == "cpu" else _CHUNK_ON_GPU
    starts = range(0, len(cells), chunk)
    parts = [_read(table, cells.part(start, start + chunk), whole) for start in starts]
    if parts:
        return torch.cat(parts)
    n, _, P = cells.low.shape
    return cells.low.new_zeros(n, table.shape[1], P, P, dtype=_result(table))


def _result(table: Tensor) -> torch.dtype:
    return torch.float64 if table.dtype == torch.float64 else torch.float32


def _read(table: Tensor, cells: Cells, whole: bool) -> Tensor:
    n, _, P = cells.low.shape
    C = table.shape[1]
    lines = _lines(cells.low, cells.high, whole)  # [n, 2, L], pixel corners to read at
    weights = _weights(lines, cells).to(_result(table))  # [n, 2, P, L-1]
    lattice = _lattice(table, lines, cells)  # [n, L, L, C]
    strips = lattice[:, 1:] - lattice[:, :-1]
    boxes = (strips[:, :, 1:] - strips[:, :, :-1]).to(_result(table))  # [n, L-1 (y), L-1 (x), C]
    L = boxes.shape[1]
    rows = torch.bmm(weights[:, 1], boxes.reshape(n, L, L * C))  # [n, P, (x, C)]
    rows = rows.view(n, P, L, C).permute(0, 3, 1, 2).reshape(n, C * P, L)
    return torch.bmm(rows, weights[:, 0].transpose(1, 2)).view(n, C, P, P)


def _lines(low: Tensor, high: Tensor, whole: bool) -> Tensor:
    """Choose the pixel corners [n, 2, L] between which every cell edge is resolved.

    Where cells are wider than a pixel these are the corners around each shared edge; where they
    overlap (a patch that enlarges), all corners from the first on, one pixel apart.
    """
    first = low[..., :1].floor()
    edges = torch.cat([low, high[..., -1:]], dim=-1)  # [n, 2, P+1]
    if whole:
        around = torch.cat([edges, edges[..., -1:]], dim=-1)
    else:
        around = torch.stack([edges.floor(), edges.floor() + 1], dim=-1).flatten(-2)
    steps = torch.arange(around.shape[-1], device=low.device, dtype=low.dtype)
    overlap = (high[..., :-1] > low[..., 1:] + 1e-9).any(-1, keepdim=True)
    lines = torch.where(overlap, first + steps, around)
    return lines.cummax(-1).values  # edges clamped to one border would go back and forth


def _weights(lines: Tensor, cells: Cells) -> Tensor:
    """Share of each box in each cell's mean, one axis: [n, 2, P, L-1], float64.

    A cell's mean is the sum over boxes of (length of the overlap / length of the box / length of
    the cell); boxes that a cell covers in part are one pixel wide, so this is exact.
    """
    low, high = cells.low[..., None], cells.high[..., None]
    left, right = lines[:, :, None, :-1], lines[:, :, None, 1:]
    covered = (torch.minimum(right, high) - torch.maximum(left, low)).clamp_(min=0)
    return covered / ((right - left).clamp_(min=1) * (high - low).clamp(min=1e-12))


def _lattice(table: Tensor, lines: Tensor, cells: Cells) -> Tensor:
    """Look the table up at the crossings of lines [n, 2, L] -> [n, L, L, C]."""
    corner = lines.long().minimum(cells.limit[:, :, None])
    rows = cells.first[:, None] + corner[:, 1] * (cells.limit[:, :1] + 1)
    index = rows[:, :, None] + corner[:, 0][:, None, :]
    n, L, _ = index.shape
    return table.index_select(0, index.flatten()).view(n, L, L, -1)
