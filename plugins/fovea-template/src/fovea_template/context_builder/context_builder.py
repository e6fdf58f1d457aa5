"""Windows on a spiral about the gaze, larger the further out: as an eye resolves."""

import math

import torch
from torch import Tensor

from fovea.draws import uniform
from fovea.interfaces import ContextBuilder
from fovea_template.context_builder.config import TemplateConfig

_GOLDEN = math.pi * (3 - math.sqrt(5))  # turned by so much, windows never line up


class TemplateContext(ContextBuilder):
    """Context ``template``: a sunflower's spiral, turned at random in training."""

    Config = TemplateConfig

    def __init__(self, config: TemplateConfig):
        self.config = config
        self.num_windows = config.count
        self.finest_zoom = config.zoom

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay out windows: gaze [B, 2], sizes [B, 2] -> [B, count, 3], the gaze's own first."""
        B, N = len(gaze), self.num_windows
        place = torch.arange(N, dtype=torch.float64, device=gaze.device)
        angle = (place * _GOLDEN).expand(B, N)
        if generator is not None:
            angle = angle + 2 * math.pi * uniform((B, 1), generator).to(gaze.device)
        distance = (place / (N - 1)).sqrt()  # 0..1, [N]; as many windows on every equal area
        circle = torch.stack([angle.cos(), angle.sin()], -1) * distance[:, None]  # [B, N, 2]
        stretch = sizes.amin(1, keepdim=True) / sizes.flip(1).double()  # of (x, y), [B, 2]
        centres = gaze.double()[:, None] + circle * self.config.radius * stretch[:, None]
        zoom = (self.config.zoom - self.config.fall * distance).expand(B, N)
        return torch.cat([centres, zoom[..., None]], -1)
