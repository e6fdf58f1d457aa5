"""Context of the paper: concentric windows and a dense grid about the gaze."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea import geometry
from fovea.context.config import FovealConfig
from fovea.context.constant import Constant
from fovea.interfaces import ContextBuilder


class Foveal(ContextBuilder):
    """Context ``foveal``: L concentric windows, then an n x n grid. Paper, section 3.2."""

    Config = FovealConfig

    def __init__(self, config: FovealConfig):
        L, n = len(config.zooms), config.grid
        self.zooms = Constant(torch.tensor(config.zooms, dtype=torch.float64))
        self.cells = Constant(F.pad(geometry.grid_cells(n), (0, 0, L, 0)))  # first L at the gaze
        self.grid_zoom = config.grid_zoom
        self.grid_zoom_eval = config.grid_zoom_eval
        self.num_windows = L + n**2
        self.finest_zoom = max(*config.zooms, config.grid_zoom[1], config.grid_zoom_eval)

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay out windows: gaze [B, 2], sizes [B, 2] -> [B, L + n*n, 3].

        With a generator the grid's zoom is drawn per image from ``grid_zoom`` (paper); without,
        it is ``grid_zoom_eval`` (our choice). The slow meaning: ``geometry.multizoom``, then
        ``geometry.grid``; both are laid out at once, since a GPU takes as long for each small step.
        """
        B, device = len(gaze), gaze.device
        if generator is None:
            zoom = gaze.new_full((B,), self.grid_zoom_eval, dtype=torch.float64)
        else:
            zoom = geometry.draw_uniform((B,), self.grid_zoom, generator).to(device)
        centres = geometry.around(gaze, self.cells.on(device), zoom, sizes)
        periphery = self.zooms.on(device).expand(B, -1)
        fovea = zoom[:, None].expand(B, self.num_windows - periphery.shape[1])
        zooms = torch.cat([periphery, fovea], dim=1)  # [B, L + n*n]
        return torch.cat([centres, zooms[:, :, None]], dim=2)
