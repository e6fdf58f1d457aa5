"""Context of log-polar rings: windows grow with their distance from the gaze, as in the eye."""

import math

import torch
from torch import Tensor

from fovea import geometry
from fovea.interfaces import ContextBuilder
from fovea_polar.config import PolarConfig


class Polar(ContextBuilder):
    """Context ``polar``: a window at the gaze, and rings about it whose radius grows geometrically.

    The windows of a ring touch: their side is the distance between the centres of neighbours. The
    innermost ring and the window at the gaze have the same side; with 6 windows that one fills the
    ring. Every other ring is turned by half the angle between neighbours. All lengths are in
    pixels, so rings are round on images that are not square.
    """

    Config = PolarConfig

    def __init__(self, config: PolarConfig):
        self.config = config
        self.num_windows = 1 + config.rings * config.windows
        self.finest_zoom = max(*config.zoom, config.zoom_eval)
        self.offsets, self.zooms = lay_out(config.rings, config.windows, config.growth)

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay out windows: gaze [B, 2], sizes [B, 2] -> [B, 1 + rings * windows, 3].

        From the gaze outwards, ring by ring. With a generator the innermost zoom is drawn per image
        from ``zoom``; without, it is ``zoom_eval``.
        """
        B, device = len(gaze), gaze.device
        self.offsets, self.zooms = self.offsets.to(device), self.zooms.to(device)  # moved once
        if generator is None:
            inner = torch.full((B,), self.config.zoom_eval, dtype=torch.float64, device=device)
        else:
            inner = geometry.draw_uniform((B,), self.config.zoom, generator).to(device)
        side = geometry.window_sides(inner[:, None], sizes)[..., None]  # [B, 1, 1] pixels
        width_height = sizes.flip(1).double()[:, None]  # [B, 1, 2]
        centres = gaze.double()[:, None] + self.offsets * side / width_height
        zoom = inner[:, None] + self.zooms  # [B, N]
        return torch.cat([centres, zoom[..., None]], dim=-1)


def lay_out(rings: int, windows: int, growth: float) -> tuple[Tensor, Tensor]:
    """Lay rings about a point, in sides of the innermost windows.

    Returns:
        The centres [1 + rings * windows, 2] as (x, y), and each window's zoom less that of the
        innermost.
    """
    ring = torch.arange(rings, dtype=torch.float64)[:, None]
    number = torch.arange(windows, dtype=torch.float64)
    angle = (number + ring % 2 / 2) * (2 * math.pi / windows)  # [rings, windows]
    chord = 2 * math.sin(math.pi / windows)  # side of a window on a ring of radius 1
    radius = growth**ring / chord  # [rings, 1]
    around = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    centres = torch.cat([torch.zeros(1, 2, dtype=torch.float64), around.flatten(0, 1)])
    zooms = (-math.log2(growth) * ring).expand(rings, windows).flatten()
    return centres, torch.cat([torch.zeros(1, dtype=torch.float64), zooms])
