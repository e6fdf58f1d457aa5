"""Context of concentric windows only, as in the foveal predecessor of the paper."""

import torch
from torch import Tensor

from fovea import geometry
from fovea.context.config import MultiZoomConfig
from fovea.context.constant import Constant
from fovea.interfaces import ContextBuilder


class MultiZoom(ContextBuilder):
    """Context ``multizoom``: windows of growing size about the gaze. Paper, section 2.3."""

    Config = MultiZoomConfig

    def __init__(self, config: MultiZoomConfig):
        self.zooms = Constant(torch.tensor(config.zooms, dtype=torch.float64))
        self.num_windows = len(config.zooms)
        self.finest_zoom = max(config.zooms)

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay out windows: gaze [B, 2] -> [B, L, 3]; nothing is random."""
        return geometry.multizoom(gaze, self.zooms.on(gaze.device))
