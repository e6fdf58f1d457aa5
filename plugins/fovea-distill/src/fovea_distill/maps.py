"""The teacher's map: what it was made from, where its cells lie, and its features as targets."""

import math

import torch
from torch import Tensor

from fovea import collective, geometry
from fovea.precision import full_precision

_LEAST_VARIANCE = 1e-6
"""Added to a channel's variance: one that hardly varies is not blown up. Our choice."""


def picture(patches: Tensor) -> Tensor:
    """Lay the patches of an n x n grid together: [B, n*n, C, P, P] -> [B, C, n*P, n*P]."""
    n = math.isqrt(patches.shape[1])
    rows = patches.unflatten(1, (n, n)).permute(0, 3, 1, 4, 2, 5)  # [B, C, n, P, n, P]
    whole: Tensor = rows.flatten(4, 5).flatten(2, 3)
    return whole


def cells(view: Tensor, side: int, sizes: Tensor) -> Tensor:
    """Divide what a grid covers into side x side windows: view [B, n*n, 3] -> [B, side*side, 3].

    Row by row from the top left, as the grid's own windows are.
    """
    n = math.isqrt(view.shape[1])
    zoom = view[:, 0, 2] + math.log2(side / n)
    return geometry.grid(view[..., :2].mean(1), zoom, side, sizes)


@full_precision()
def standardise(features: Tensor) -> Tensor:
    """Bring each channel to mean 0 and deviation 1 over all of a batch: [B, M, F] -> [B, M, F].

    The batch is that of all processes. Scaling or shifting a channel changes nothing, so channels
    of large or constant values count no more than others (our choice).
    """
    rows = features.float().flatten(0, 1)
    count = collective.total(torch.full((), float(len(rows)), device=rows.device))
    centred = rows - collective.total(rows.sum(0)) / count
    variance = collective.total(centred.square().sum(0)) / count
    return (centred / (variance + _LEAST_VARIANCE).sqrt()).view_as(features)
