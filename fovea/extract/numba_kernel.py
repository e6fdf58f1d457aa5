"""Windows read from an int32 table by a compiled loop on the CPU: ``lattice.read_cells``, faster.

Along each axis a cell is its first pixel, whole pixels, and its last pixel, so that it is made of
nine boxes between sixteen corners. Every difference is cast back to int32: numba would widen it,
and a table that wrapped in between would be read wrongly. Cells are laid out here as
``fovea.geometry.cells`` does it, since for one glimpse that takes torch as long as all the reading.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeAlias

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MANY = 512  # windows from which threads are worth starting

Corners: TypeAlias = tuple[int, int, int, int]


def read_windows(
    table: Tensor,
    windows: Tensor,
    sizes: Tensor,
    offsets: Tensor,
    fill: Tensor,
    patch_size: int,
    rounding: float | None,
) -> Tensor:
    """Read patches of uint8 pixels: windows [B, N, 3] -> float32 [B, N, C, P, P] in 0..1.

    Args:
        table: int32 [entries, C], of ``fovea.extract.table``.
        windows: see ``fovea.interfaces``.
        sizes: int64 [B, 2], (height, width).
        offsets: int64 [B], where each image's table begins.
        fill: float32 [C], the colour of a cell outside.
        patch_size: P.
        rounding: what is added to a cell's edges before they are rounded down; None: not rounded.
    """
    B, N, _ = windows.shape
    out = torch.empty(B, N, table.shape[1], patch_size, patch_size)
    whole = [table, windows.detach().double(), sizes, offsets, fill, out]
    arrays = [tensor.contiguous().numpy() for tensor in whole]
    threads = torch.get_num_threads()
    if B * N < _MANY or threads == 1:
        _read(*arrays, rounding, 0, B * N)
        return out
    bounds = [B * N * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        parts = [
            pool.submit(_read, *arrays, rounding, start, stop) for start, stop in pairwise(bounds)
        ]
    for part in parts:
        part.result()
    return out


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, and keep the result for later processes where that is possible."""
    try:
        return numba.njit(function, nogil=True, cache=True)  # type: ignore[no-any-return]
    except RuntimeError:  # there is no folder that it may write to
        return numba.njit(function, nogil=True)  # type: ignore[no-any-return]


@_compiled
def _cut(
    centre: float,
    side: float,
    size: int,
    rounding: float | None,
    step: int,
    corner: NDArray[np.uint64],
    share: NDArray[np.float32],
) -> None:
    """Cut the cells of one axis: -> corners [4, P], and each box's share of a mean [3, P].

    A corner is an offset into the flat table, whose entries along this axis lie ``step`` apart. A
    cell outside the image has no share.
    """
    P = corner.shape[1]
    pitch = side / P
    half = max(pitch, 1.0) / 2
    for i in range(P):
        middle = centre + (i - (P - 1) / 2) * pitch
        low, high = middle - half, middle + half
        if rounding is not None:
            low, high = math.floor(low + rounding), math.floor(high + rounding)
        low, high = min(max(low, 0.0), size), min(max(high, 0.0), size)
        begin = math.floor(low)
        end = max(math.floor(high), begin + 1)
        corner[0, i] = begin * step
        corner[1, i] = min(begin + 1, size) * step
        corner[2, i] = min(end, size) * step
        corner[3, i] = min(end + 1, size) * step
        length = high - low
        if length > 0:
            share[0, i] = (min(high, begin + 1) - low) / length
            share[1, i] = 1 / length
            share[2, i] = max(high - end, 0) / length
        else:
            share[:, i] = 0


@_compiled
def _column(flat: NDArray[np.int32], rows: Corners, x: int) -> Any:
    """Take differences along a column: sums between four rows and left of x, wrapped."""
    a, b, c, d = flat[rows[0] + x], flat[rows[1] + x], flat[rows[2] + x], flat[rows[3] + x]
    return np.int32(b - a), np.int32(c - b), np.int32(d - c)


@_compiled
def _boxes(left: Any, right: Any, share: Any) -> Any:
    """Add up the three boxes between two columns by their shares."""
    top, whole, bottom = right[0] - left[0], right[1] - left[1], right[2] - left[2]
    return (
        share[0] * np.float32(np.int32(top))
        + share[1] * np.float32(np.int32(whole))
        + share[2] * np.float32(np.int32(bottom))
    )


@_compiled
def _read(
    table: NDArray[np.int32],
    windows: NDArray[np.float64],
    sizes: NDArray[np.int64],
    offsets: NDArray[np.int64],
    fill: NDArray[np.float32],
    out: NDArray[np.float32],
    rounding: float | None,
    start: int,
    stop: int,
) -> None:
    """Read windows start..stop of all B * N into out [B, N, C, P, P].

    Cells side by side share the boxes about their common edge. Indices are unsigned: numba checks
    signed ones for being negative, which costs half the speed.
    """
    _, N, C, P, _ = out.shape
    flat = table.ravel()
    x, y = np.empty((4, P), np.uint64), np.empty((4, P), np.uint64)
    across, down = np.empty((3, P), np.float32), np.empty((3, P), np.float32)
    scale = np.float32(1 / 255)
    for k in range(start, stop):
        b, n = k // N, k % N
        height, width = sizes[b]
        side = min(height, width) * 2.0 ** -windows[b, n, 2]
        _cut(windows[b, n, 0] * width, side, width, rounding, C, x, across)
        _cut(windows[b, n, 1] * height, side, height, rounding, C * (width + 1), y, down)
        touched = np.int32(0)
        for i in range(P):  # ask for a page of each row now, so that their look-ups overlap
            touched += flat[np.uint64(offsets[b] * C) + y[2, i] + x[0, 0]]
            touched += flat[np.uint64(offsets[b] * C) + y[3, i] + x[0, 0]]
        out[b, n, 0, 0, 0] = touched  # overwritten below; else the compiler would drop the loop
        for i in range(P):
            share = (down[0, i], down[1, i], down[2, i])
            for c in range(C):
                begin = np.uint64(offsets[b] * C + c)
                rows = (begin + y[0, i], begin + y[1, i], begin + y[2, i], begin + y[3, i])
                last, end = _column(flat, rows, x[0, 0]), _column(flat, rows, x[1, 0])
                edge = _boxes(last, end, share)
                for j in range(P):
                    if j > 0 and (x[0, j] != x[2, j - 1] or x[1, j] != x[3, j - 1]):
                        last, end = _column(flat, rows, x[0, j]), _column(flat, rows, x[1, j])
                        edge = _boxes(last, end, share)
                    mean = across[0, j] * edge
                    last = _column(flat, rows, x[2, j])
                    mean += across[1, j] * _boxes(end, last, share)
                    end = _column(flat, rows, x[3, j])
                    edge = _boxes(last, end, share)
                    mean += across[2, j] * edge
                    inside = across[1, j] > 0 and down[1, i] > 0
                    out[b, n, c, i, j] = mean * scale if inside else fill[c]
