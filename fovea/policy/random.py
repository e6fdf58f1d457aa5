"""The policy that looks anywhere."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Uniform

from fovea.interfaces import GazePolicy
from fovea.policy.config import RandomConfig


class RandomGaze(GazePolicy):
    """Policy ``random``: uniform over the image, whatever was seen."""

    Config = RandomConfig

    def __init__(self, config: RandomConfig, *, width: int, num_state_tokens: int):
        super().__init__()
        self.low, self.high = config.low, config.high

    def forward(self, state: Tensor) -> Distribution:
        """Ignore the state [B, K, D]; return a uniform distribution, batch [B], event [2].

        The config has checked the bounds: for torch to do so, a GPU would have to be waited for.
        """
        low = torch.full((len(state), 2), self.low, device=state.device)
        uniform = Uniform(low, torch.full_like(low, self.high), validate_args=False)
        return Independent(uniform, 1, validate_args=False)
