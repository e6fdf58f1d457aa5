"""Where glimpses look: what extractors and rivals are told beforehand, each in its own terms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fovea import create, geometry
from fovea.interfaces import ContextBuilder

Box = tuple[float, float, float, float]
Crop = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Look:
    """Where one glimpse looks at a square image.

    Attributes:
        gaze: float64 [1, 2].
        windows: float64 [1, N, 3].
        edges: float32 [1, N, 4], the windows' left, top, right and bottom in pixels.
        boxes: the same, cut off at the image's border, a pixel wide at least.
        crops: the same, rounded to whole pixels before.
        inside: bool [N], windows that lie inside the image altogether.
    """

    gaze: Tensor
    windows: Tensor
    edges: Tensor
    boxes: list[Box]
    crops: list[Crop]
    inside: Tensor


def draw_looks(count: int, side: int, seed: int) -> list[Look]:
    """Draw gazes uniformly over a square image, each with the windows of context ``foveal``."""
    generator = torch.Generator().manual_seed(seed)
    gazes = geometry.draw_uniform((count, 1, 2), (0.0, 1.0), generator)
    return [look_at(gaze, side) for gaze in gazes]


def look_at(gaze: Tensor, side: int) -> Look:
    """Lay the windows of one glimpse: gaze [1, 2]."""
    context: ContextBuilder = create("context_builder", "foveal")
    sizes = torch.tensor([[side, side]])
    windows = context.windows(gaze, sizes, None)
    edges = geometry.window_edges(windows, sizes)  # [1, N, 4]
    boxes: list[Box] = _cut_off(edges[0], side).tolist()
    crops: list[Crop] = _cut_off(edges[0].round(), side).int().tolist()
    inside = geometry.coverage(windows, sizes)[0] > 1 - 1e-9
    return Look(gaze, windows, edges.float(), boxes, crops, inside)


def _cut_off(edges: Tensor, side: int) -> Tensor:
    """Keep windows [N, 4] inside the image, one pixel wide at least."""
    low = edges[:, :2].clamp(0, side - 1)
    high = edges[:, 2:].clamp(max=side).maximum(low + 1)
    return torch.cat([low, high], dim=1)
