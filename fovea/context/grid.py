"""Context that covers the whole image: a plain ViT's view."""

import math

import torch
from torch import Tensor

from fovea import geometry
from fovea.context.config import GridConfig
from fovea.interfaces import ContextBuilder


class Grid(ContextBuilder):
    """Context ``grid``: n x n windows over the image, wherever the gaze is (the ViT mode)."""

    Config = GridConfig

    def __init__(self, config: GridConfig):
        self.grid = config.grid
        self.num_windows = config.grid**2
        self.finest_zoom = math.log2(config.grid)  # on a square image

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay out windows: sizes [B, 2] -> [B, n*n, 3]; the gaze does not matter."""
        return geometry.vit_grid(self.grid, sizes)
