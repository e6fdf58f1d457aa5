"""Tables and patches on the GPU: two kernels that build, one that reads; uint8 pixels, int32 sums.

A table is bound by memory, so each entry is written once. The image is cut into bands of rows.
The first kernel walks down its columns and leaves the sums of all that lies above a band in the
band's first row of the table; the second takes that row and the band's pixels, and adds up along
both axes. Any sizes in one launch each: smaller images have programs that end at once.

A glimpse is one kernel from windows to what a patch embedding takes. Cells are laid out and clamped
in float64 as ``fovea.geometry.cells`` does it, once per axis; a cell is nine boxes between sixteen
corners of the table, whose differences int32 wraps by itself.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fovea.extract.table import LARGEST_CELL, Layout

_BAND = 8  # rows: 1/8 of a table goes between the kernels; 16 would take 168 registers, not 62
_ACROSS = 64  # entries of a row that are added up at once, over all channels of a group
_STRIP = 256  # entries of a row that one program sums up downwards
_CHANNELS = 16  # channels at once, at most
_CELLS = 1024  # cells at once, over all channels of a group


def build_tables(pixels: Tensor, layout: Layout) -> Tensor:
    """Sum up packed images: uint8 [sum of H * W * C] -> int32 [sum (H+1)(W+1), C].

    Args:
        pixels: of ``fovea.images.Packed``.
        layout: of these images, on the same device.
    """
    C, B = layout.channels, len(layout.sizes)
    table = torch.empty(layout.entries, C, dtype=torch.int32, device=pixels.device)
    places = (layout.sizes, layout.starts, layout.offsets)
    group = min(triton.next_power_of_2(C), _CHANNELS)
    strips = triton.cdiv(layout.widest * C, _STRIP)
    bands = triton.cdiv(layout.tallest + 1, _BAND)
    across = max(_ACROSS // group, 1)
    with torch.cuda.device_of(table):
        _sum_down[(B * strips,)](pixels, table, *places, strips, C, _BAND, _STRIP)
        grid = (B * bands, triton.cdiv(C, group))
        _scan_bands[grid](pixels, table, *places, bands, C, _BAND, across, group, num_warps=1)
    return table


def read_windows(
    table: Tensor,
    windows: Tensor,
    sizes: Tensor,
    offsets: Tensor,
    fill: Tensor,
    patch_size: int,
    rounding: float | None,
    normal: tuple[Tensor, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Read patches of uint8 pixels: windows [B, N, 3] -> [B, N, C, P, P] in 0..1, or normalised.

    NaN fills a window that is not finite, is below zoom -64, or has a cell whose sum may leave
    int32: to refuse it here, the host would have to wait for the device.

    Args:
        table: int32 [entries, C], of ``fovea.extract.table``.
        windows: see ``fovea.interfaces``.
        sizes: int64 [B, 2], (height, width).
        offsets: int64 [B], where each image's table begins.
        fill: float32 [C], the colour of a cell outside.
        patch_size: P.
        rounding: what is added to a cell's edges before they are rounded down; None: not rounded.
        normal: mean and standard deviation, float32 [C] each, for pixels in 0..1.
        dtype: float32, bfloat16 or float16.
    """
    (B, N, _), C, P = windows.shape, table.shape[1], patch_size
    out = torch.empty(B, N, C, P, P, dtype=dtype, device=table.device)
    if out.numel() == 0:
        return out
    side, group = triton.next_power_of_2(P), min(triton.next_power_of_2(C), _CHANNELS)
    rows = min(max(_CELLS // (side * group), 1), side)
    whole = (table, windows.detach().double(), sizes, offsets, fill, *(normal or ()))
    inputs = [tensor.contiguous() for tensor in whole] + [None] * (0 if normal else 2)
    with torch.cuda.device_of(table):
        grid = (B * N, triton.cdiv(P, rows))
        warps = min(max(side * rows * group // 128, 1), 8)
        constants = (C, P, rounding, LARGEST_CELL, side, rows, group)
        _read[grid](*inputs, out, N, *constants, num_warps=warps)
    return out


# of these no property is worth compiling a kernel anew
_COUNTS = ["strips", "bands", "N"]
_PLACES = ["sizes", "starts", "offsets", "windows"]


@triton.jit(do_not_specialize=_COUNTS, do_not_specialize_on_alignment=_PLACES)
def _sum_down(
    pixels,
    table,
    sizes,
    starts,
    offsets,
    strips,
    C: tl.constexpr,
    BAND: tl.constexpr,
    STRIP: tl.constexpr,
):
    """Write into the first row of each band the sums of the pixels above it, column by column.

    Programs are (image, strip of STRIP numbers of a row), in one axis.
    """
    b, first = tl.program_id(0) // strips, tl.program_id(0) % strips * STRIP
    height, row = tl.load(sizes + 2 * b).to(tl.int32), tl.load(sizes + 2 * b + 1) * C
    if first >= row:
        return
    i = first + tl.arange(0, STRIP)
    r = tl.arange(0, BAND)[:, None]
    live = i < row
    source = pixels + tl.load(starts + b) + r * row + i[None, :]
    target = table + (tl.load(offsets + b) + 1) * C + i  # from the corner right of the first pixel
    above = tl.zeros((STRIP,), tl.int32)
    for top in range(0, height + 1, BAND):
        tl.store(target, above, live)
        inside = (top + r < height) & live[None, :]
        above += tl.sum(tl.load(source, inside, other=0).to(tl.int32), 0)
        source += BAND * row
        target += BAND * (row + C)


@triton.jit(do_not_specialize=_COUNTS, do_not_specialize_on_alignment=_PLACES)
def _scan_bands(
    pixels,
    table,
    sizes,
    starts,
    offsets,
    bands,
    C: tl.constexpr,
    BAND: tl.constexpr,
    ACROSS: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Turn a band's first row and its pixels into its rows of the table, from left to right.

    Programs are (image, band of BAND rows) and groups of GROUP channels. Corner (y, x) gets pixel
    (y-1, x-1), or in the band's first row what was left there, and is then added up both ways.
    """
    b, top = tl.program_id(0) // bands, tl.program_id(0) % bands * BAND
    height, width = tl.load(sizes + 2 * b).to(tl.int32), tl.load(sizes + 2 * b + 1).to(tl.int32)
    if top > height:
        return
    r = tl.arange(0, BAND)[:, None, None]
    c = (tl.program_id(1) * GROUP + tl.arange(0, GROUP))[None, None, :]
    # rows beyond the last add nothing and write that one again: masks for rows would make the loop
    # a quarter longer, and 64-bit indices within a row a sixth
    y = tl.minimum(top + r, height).to(tl.int64)
    keep = tl.where(top + r <= height, 255, 0)
    source = pixels + tl.load(starts + b) + (tl.maximum(y, 1) - 1) * width * C - C
    target = table + (tl.load(offsets + b) + y * (width + 1)) * C
    carry = tl.zeros((BAND, 1, GROUP), tl.int32)
    for left in range(0, width + 1, ACROSS):
        x = left + tl.arange(0, ACROSS)[None, :, None]
        live = (x <= width) & (c < C)
        i = x * C + c
        pixel = tl.load(source + i, live & (x > 0) & (r > 0), other=0).to(tl.int32) & keep
        above = tl.load(target + i, live & (x > 0) & (r == 0), other=0)
        added = pixel + above
        tl.store(target + i, tl.cumsum(tl.cumsum(added, 1) + carry, 0), live)
        carry += tl.sum(added, 1, keep_dims=True)


@triton.jit
def _lay(centre, pitch, size, i, P: tl.constexpr, ROUNDING: tl.constexpr):
    """Lay the cells i of one axis and clamp them to the image: their low and high edges."""
    middle = centre + (i.to(tl.float64) - (P - 1) / 2) * pitch
    half = tl.maximum(pitch, 1.0) / 2
    low, high = middle - half, middle + half
    if ROUNDING is not None:
        low, high = tl.floor(low + ROUNDING), tl.floor(high + ROUNDING)
    return _clamp(low, size), _clamp(high, size)


@triton.jit
def _clamp(edge, size):
    """Bring edges into 0..size: of float64, min and max are thrice as long as a choice."""
    edge = tl.where(edge > 0, edge, 0.0)
    return tl.where(edge < size, edge, size)


@triton.jit
def _cut(low, high, size):
    """Cut cells of one axis: edges -> four corners, and the share of the three boxes between."""
    begin, stop = tl.floor(low), tl.floor(high)
    length = tl.maximum((high - low).to(tl.float32), 1e-12)
    a, last = begin.to(tl.int32), stop.to(tl.int32)
    end = tl.maximum(last, a + 1)
    left = tl.minimum(length, (begin + 1 - low).to(tl.float32)) / length
    right = tl.where(last > a, (high - stop).to(tl.float32), 0.0) / length
    b, c, d = tl.minimum(a + 1, size), tl.minimum(end, size), tl.minimum(end + 1, size)
    return a, b, c, d, left, 1 / length, right


@triton.jit
def _strip(row, a, b, c, d):
    """Take differences along a row of the table: sums above it, between four columns."""
    first, second = tl.load(row + a), tl.load(row + b)
    third, fourth = tl.load(row + c), tl.load(row + d)
    return second - first, third - second, fourth - third


@triton.jit
def _mean(upper, lower, left, whole, right):
    """Add up the three boxes between two rows of the table, by their shares."""
    across = left * (lower[0] - upper[0]) + whole * (lower[1] - upper[1])
    return across + right * (lower[2] - upper[2])


@triton.jit(do_not_specialize=_COUNTS, do_not_specialize_on_alignment=_PLACES)
def _read(
    table,
    windows,
    sizes,
    offsets,
    fill,
    mean,
    std,
    out,
    N,
    C: tl.constexpr,
    P: tl.constexpr,
    ROUNDING: tl.constexpr,
    LARGEST: tl.constexpr,
    SIDE: tl.constexpr,
    ROWS: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Write ROWS rows of cells of a patch; SIDE >= P cells lie side by side, GROUP channels deep.

    Programs are (window of all B * N, rows of cells).
    """
    k = tl.program_id(0).to(tl.int64)
    b = k // N
    height, width = tl.load(sizes + 2 * b).to(tl.int32), tl.load(sizes + 2 * b + 1).to(tl.int32)
    x, y = tl.load(windows + 3 * k), tl.load(windows + 3 * k + 1)
    zoom = tl.load(windows + 3 * k + 2)
    sound = (tl.abs(x) < float("inf")) & (tl.abs(y) < float("inf")) & (tl.abs(zoom) < float("inf"))
    sound = sound & (zoom >= -64)
    x, y, zoom = tl.where(sound, x, 0.0), tl.where(sound, y, 0.0), tl.where(sound, zoom, 0.0)

    H, W = height.to(tl.float64), width.to(tl.float64)
    pitch = tl.minimum(H, W) * tl.exp2(-zoom) / P
    column, row = tl.arange(0, SIDE), tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    left, right = _lay(x * W, pitch, W, column, P, ROUNDING)
    top, bottom = _lay(y * H, pitch, H, row, P, ROUNDING)
    any_top, any_bottom = _lay(y * H, pitch, H, column, P, ROUNDING)  # of all rows
    widest = tl.max(tl.where(column < P, right - left, 0.0), 0)
    tallest = tl.max(tl.where(column < P, any_bottom - any_top, 0.0), 0)
    sound = sound & (widest * tallest < LARGEST + 1)

    x0, x1, x2, x3, u0, u1, u2 = _cut(left[None, :, None], right[None, :, None], width)
    y0, y1, y2, y3, v0, v1, v2 = _cut(top[:, None, None], bottom[:, None, None], height)
    outside = ((right <= left)[None, :, None]) | ((bottom <= top)[:, None, None])
    i, j = row[:, None, None], column[None, :, None]
    stride = (width + 1) * C
    origin = table + tl.load(offsets + b) * C
    target = out + k * C * P * P + i * P + j
    for first in tl.static_range(0, C, GROUP):
        c = first + tl.arange(0, GROUP)[None, None, :]
        live = (i < P) & (j < P) & (c < C)
        known = tl.minimum(c, C - 1)  # every corner is in the table: no load needs a mask
        a0, a1, a2, a3 = x0 * C + known, x1 * C + known, x2 * C + known, x3 * C + known
        strip0 = _strip(origin + y0.to(tl.int64) * stride, a0, a1, a2, a3)
        strip1 = _strip(origin + y1.to(tl.int64) * stride, a0, a1, a2, a3)
        strip2 = _strip(origin + y2.to(tl.int64) * stride, a0, a1, a2, a3)
        strip3 = _strip(origin + y3.to(tl.int64) * stride, a0, a1, a2, a3)
        value = v0 * _mean(strip0, strip1, u0, u1, u2)
        value += v1 * _mean(strip1, strip2, u0, u1, u2)
        value += v2 * _mean(strip2, strip3, u0, u1, u2)
        value = tl.where(outside, tl.load(fill + known), value / 255)
        value = tl.where(sound, value, float("nan"))
        if mean is not None:
            value = (value - tl.load(mean + known)) / tl.load(std + known)
        tl.store(target + c * (P * P), value.to(out.dtype.element_ty), live)
