"""Hide windows of a look, and say what their pixels should be told as."""

import torch
from torch import Tensor

from fovea.draws import uniform
from fovea.objective.views import View
from fovea.precision import full_precision

_FLAT = 1 / 255
"""Deviation of a patch's pixels below which it counts as flat: one grey level. Our choice."""


def count_hidden(windows: int, share: float) -> int:
    """Say how many windows of a look are hidden: the share, but at least one and never all.

    Raises:
        ValueError: a look has one window only.
    """
    if windows < 2:
        raise ValueError(
            f"objective mae: a look of {windows} window cannot be hidden in part; "
            "choose a context, and a global_crop.grid, of two or more"
        )
    return min(max(round(share * windows), 1), windows - 1)


def hide(view: View, share: float, generator: torch.Generator) -> tuple[View, View]:
    """Part the windows of each row at random: a view of N -> those shown, and those hidden."""
    R, N, _ = view.windows.shape
    hidden = count_hidden(N, share)
    order = uniform((R, N), generator).argsort(1).to(view.windows.device)
    return _take(view, order[:, hidden:]), _take(view, order[:, :hidden])


def _take(view: View, places: Tensor) -> View:
    """Take windows [R, M] of each row."""
    rows = torch.arange(len(places), device=places.device)[:, None]
    return View(view.patches[rows, places], view.windows[rows, places])


@full_precision()
def targets(patches: Tensor, side: int) -> Tensor:
    """Bring patches to mean 0 and deviation 1: [..., C, P, P] -> [..., C*side*side].

    Pixels are averaged to ``side`` first; mean and deviation are of one patch. A flat patch has
    nothing to tell and stays near 0: the square of one grey level is added to the variance (our
    choice).

    Raises:
        ValueError: ``side`` does not divide P.
    """
    P = patches.shape[-1]
    if P % side:
        raise ValueError(
            f"objective.pixels: {side} does not divide the patch side {P}; choose a divisor of {P}"
        )
    cells = patches.unflatten(-1, (side, P // side)).unflatten(-3, (side, P // side))
    pixels = cells.mean((-1, -3)).flatten(-3)  # [..., C*side*side]
    variance, mean = torch.var_mean(pixels, -1, correction=0, keepdim=True)
    normalised: Tensor = (pixels - mean) / (variance + _FLAT**2).sqrt()
    return normalised
