"""A policy of one Gaussian, whose mean a linear layer reads off the state."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from fovea.interfaces import GazePolicy
from fovea_template.gaze_policy.config import TemplateConfig


class TemplatePolicy(GazePolicy):
    """Policy ``template``: at first about the centre of the image, then as it learns.

    The mean stays inside the image; a gaze that is drawn may fall outside.
    """

    Config = TemplateConfig

    def __init__(self, config: TemplateConfig, *, width: int, num_state_tokens: int):
        super().__init__()
        self.std = config.std
        self.mean = nn.Linear(width, 2)
        nn.init.zeros_(self.mean.weight)
        nn.init.zeros_(self.mean.bias)

    def forward(self, state: Tensor) -> Distribution:
        """Look at state token 0 of [B, K, D]; return a Gaussian, batch [B], event [2]."""
        mean = self.mean(state[:, 0]).sigmoid()  # [B, 2]
        return Independent(Normal(mean, torch.full_like(mean, self.std)), 1)
