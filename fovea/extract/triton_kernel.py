"""Cells read from an int32 table by one kernel on the GPU: ``lattice.read_cells``, fused.

One program makes one patch: it reads sixteen corners per cell, differences them (int32 wraps by
itself), divides by the true area, normalises, and writes what a patch embedding takes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fovea.extract.lattice import Cells


def read_cells(
    table: Tensor, cells: Cells, fill: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> Tensor:
    """Average cells of uint8 pixels and normalise: int32 [entries, C] -> dtype [n, C, P, P].

    Args:
        table: of ``fovea.extract.table``.
        cells: n windows.
        fill: float32 [C] in 0..1, the colour of a cell outside.
        mean: float32 [C], subtracted from pixels in 0..1.
        std: float32 [C], by which the difference is divided.
        dtype: float32, bfloat16 or float16.
    """
    n, _, P = cells.low.shape
    C = table.shape[1]
    out = torch.empty(n, C, P, P, dtype=dtype, device=table.device)
    whole = [table, cells.low, cells.high, cells.limit, cells.first, fill, mean, std]
    inputs = [tensor.contiguous() for tensor in whole]
    if n:
        _read[(n,)](*inputs, out, C, P, triton.next_power_of_2(P * P))
    return out


@triton.jit
def _cut(low, high, size):
    """Cut cells of one axis: edges -> four corners, and the share of the three boxes between."""
    begin = tl.floor(low)
    end = tl.maximum(tl.floor(high), begin + 1)
    length = tl.maximum(high - low, 1e-12)
    left = ((tl.minimum(high, begin + 1) - low) / length).to(tl.float32)
    whole = (1 / length).to(tl.float32)
    right = (tl.maximum(high - end, 0) / length).to(tl.float32)
    first = begin.to(tl.int64)
    last = end.to(tl.int64)
    a, b = tl.minimum(first, size), tl.minimum(first + 1, size)
    c, d = tl.minimum(last, size), tl.minimum(last + 1, size)
    return a, b, c, d, left, whole, right


@triton.jit
def _band(
    upper,
    lower,
    a,
    b,
    c,
    d,
    left,
    whole,
    right,
    C: tl.constexpr,
    live,
):
    """Add up the three boxes between two rows of the table, by their shares."""
    sum_a = tl.load(lower + a * C, live) - tl.load(upper + a * C, live)
    sum_b = tl.load(lower + b * C, live) - tl.load(upper + b * C, live)
    sum_c = tl.load(lower + c * C, live) - tl.load(upper + c * C, live)
    sum_d = tl.load(lower + d * C, live) - tl.load(upper + d * C, live)
    return left * (sum_b - sum_a) + whole * (sum_c - sum_b) + right * (sum_d - sum_c)


@triton.jit
def _read(
    table,
    low,
    high,
    limit,
    first,
    fill,
    mean,
    std,
    out,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write the patch of window ``program_id(0)``: BLOCK >= P * P cells at once."""
    k = tl.program_id(0).to(tl.int64)
    cell = tl.arange(0, BLOCK)
    live = cell < P * P
    i, j = cell // P, cell % P
    width, height = tl.load(limit + 2 * k), tl.load(limit + 2 * k + 1)
    left, right = tl.load(low + 2 * P * k + j, live), tl.load(high + 2 * P * k + j, live)
    top = tl.load(low + 2 * P * k + P + i, live)
    bottom = tl.load(high + 2 * P * k + P + i, live)
    x0, x1, x2, x3, u0, u1, u2 = _cut(left, right, width)
    y0, y1, y2, y3, v0, v1, v2 = _cut(top, bottom, height)
    outside = (right <= left) | (bottom <= top)
    begin = table + tl.load(first + k) * C
    stride = (width + 1) * C
    for c in tl.static_range(C):
        row0, row1 = begin + y0 * stride + c, begin + y1 * stride + c
        row2, row3 = begin + y2 * stride + c, begin + y3 * stride + c
        value = v0 * _band(row0, row1, x0, x1, x2, x3, u0, u1, u2, C, live)
        value += v1 * _band(row1, row2, x0, x1, x2, x3, u0, u1, u2, C, live)
        value += v2 * _band(row2, row3, x0, x1, x2, x3, u0, u1, u2, C, live)
        value = tl.where(outside, tl.load(fill + c), value / 255)
        value = (value - tl.load(mean + c)) / tl.load(std + c)
        tl.store(out + (k * C + c) * P * P + cell, value.to(out.dtype.element_ty), live)
