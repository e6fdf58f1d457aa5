"""Context of the paper: concentric windows and a dense grid about the gaze."""

import torch
from torch import Tensor

from fovea import geometry
from fovea.context.config import FovealConfig
from fovea.interfaces import ContextBuilder


class Foveal(ContextBuilder):
    """Context ``foveal``: L concentric windows, then an n x n grid. Paper, section 3.2."""

    Config = FovealConfig

    def __init__(self, config: FovealConfig):
        self.zooms = torch.tensor(config.zooms, dtype=torch.float64)
        self.grid = config.grid
        self.grid_zoom = config.grid_zoom
        self.grid_zoom_eval = config.grid_zoom_eval
        self.num_windows = len(config.zooms) + config.grid**2
        self.finest_zoom = max(*config.zooms, config.grid_zoom[1], config.grid_zoom_eval)

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay out windows: gaze [B, 2], sizes [B, 2] -> [B, L + n*n, 3].

        With a generator the grid's zoom is drawn per image from ``grid_zoom`` (paper); without,
        it is ``grid_zoom_eval`` (our choice).
        """
        if generator is None:
            zoom = torch.full((len(gaze),), self.grid_zoom_eval, dtype=torch.float64)
        else:
            zoom = geometry.draw_uniform((len(gaze),), self.grid_zoom, generator)
        periphery = geometry.multizoom(gaze, self.zooms)
        fovea = geometry.grid(gaze, zoom.to(gaze.device), self.grid, sizes)
        return torch.cat([periphery, fovea], dim=1)
