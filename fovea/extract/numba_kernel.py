"""Cells read from an int32 table by a compiled loop on the CPU: ``lattice.read_cells``, faster.

Along each axis a cell is its first pixel, whole pixels, and its last pixel, so that it is made of
nine boxes between sixteen corners. Every difference is cast back to int32: numba would widen it,
and a table that wrapped in between would be read wrongly.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fovea.extract.lattice import Cells

_MANY = 512  # windows from which threads are worth starting


def read_cells(table: Tensor, cells: Cells, fill: Tensor) -> Tensor:
    """Average cells of uint8 pixels: int32 [entries, C] -> float32 [n, C, P, P] in 0..1.

    A cell outside has the colour ``fill [C]``, float32.
    """
    n, _, P = cells.low.shape
    out = torch.empty(n, table.shape[1], P, P)
    whole = [table, fill, cells.low, cells.high, cells.limit, cells.first, out]
    arrays = [tensor.detach().contiguous().numpy() for tensor in whole]
    threads = torch.get_num_threads() if n > _MANY else 1
    bounds = np.linspace(0, n, threads + 1).astype(int).tolist()
    if threads == 1:
        _read(*arrays, 0, n)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda start, stop: _read(*arrays, start, stop), bounds[:-1], bounds[1:]))
    return out


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, and keep the result for later processes where that is possible."""
    try:
        return numba.njit(function, nogil=True, cache=True)  # type: ignore[no-any-return]
    except RuntimeError:  # there is no folder that it may write to
        return numba.njit(function, nogil=True)  # type: ignore[no-any-return]


@_compiled
def _cut(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    size: int,
    step: int,
    corner: NDArray[np.uint64],
    share: NDArray[np.float32],
) -> None:
    """Cut the cells of one axis: edges [P] -> corners [4, P], and each box's share [3, P].

    A corner is an offset into the flat table, whose entries along this axis lie ``step`` apart.
    """
    for i in range(len(low)):
        begin = math.floor(low[i])
        end = max(math.floor(high[i]), begin + 1)
        corner[0, i] = min(begin, size) * step
        corner[1, i] = min(begin + 1, size) * step
        corner[2, i] = min(end, size) * step
        corner[3, i] = min(end + 1, size) * step
        length = max(high[i] - low[i], 1e-12)
        share[0, i] = (min(high[i], begin + 1) - low[i]) / length
        share[1, i] = 1 / length
        share[2, i] = max(high[i] - end, 0) / length


@_compiled
def _band(
    flat: NDArray[np.int32],
    upper: int,
    lower: int,
    x: tuple[int, int, int, int],
    share: tuple[float, float, float],
) -> np.float32:
    """Add up the three boxes between two rows of the table, by their shares."""
    a = flat[lower + x[0]] - flat[upper + x[0]]
    b = flat[lower + x[1]] - flat[upper + x[1]]
    c = flat[lower + x[2]] - flat[upper + x[2]]
    d = flat[lower + x[3]] - flat[upper + x[3]]
    left, whole, right = np.int32(b - a), np.int32(c - b), np.int32(d - c)
    return share[0] * np.float32(left) + share[1] * np.float32(whole) + share[2] * np.float32(right)


@_compiled
def _read(
    table: NDArray[np.int32],
    fill: NDArray[np.float32],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    limit: NDArray[np.int64],
    first: NDArray[np.int64],
    out: NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    """Read windows start..stop of ``Cells`` into out [n, C, P, P].

    Indices are unsigned: numba checks signed ones for being negative, which costs half the speed.
    """
    C, P = out.shape[1], out.shape[2]
    flat = table.ravel()
    x, y = np.empty((4, P), np.uint64), np.empty((4, P), np.uint64)
    across, down = np.empty((3, P), np.float32), np.empty((3, P), np.float32)
    scale = np.float32(1 / 255)
    for k in range(start, stop):
        _cut(low[k, 0], high[k, 0], limit[k, 0], C, x, across)
        _cut(low[k, 1], high[k, 1], limit[k, 1], C * (limit[k, 0] + 1), y, down)
        begin = np.uint64(first[k] * C)
        for i in range(P):
            row0, row1 = begin + y[0, i], begin + y[1, i]
            row2, row3 = begin + y[2, i], begin + y[3, i]
            for j in range(P):
                outside = high[k, 0, j] <= low[k, 0, j] or high[k, 1, i] <= low[k, 1, i]
                share = (across[0, j], across[1, j], across[2, j])
                for c in range(C):
                    at = np.uint64(c)
                    x0, x1, x2, x3 = x[0, j] + at, x[1, j] + at, x[2, j] + at, x[3, j] + at
                    corners = (x0, x1, x2, x3)
                    top = _band(flat, row0, row1, corners, share)
                    middle = _band(flat, row1, row2, corners, share)
                    bottom = _band(flat, row2, row3, corners, share)
                    mean = down[0, i] * top + down[1, i] * middle + down[2, i] * bottom
                    out[k, c, i, j] = fill[c] if outside else mean * scale
