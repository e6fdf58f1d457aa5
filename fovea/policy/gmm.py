"""The learned policy: a small transformer over the state that outputs a Gaussian mixture."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from fovea.interfaces import GazePolicy
from fovea.policy.config import MixtureConfig


class MixturePolicy(GazePolicy):
    """Policy ``gmm``. Paper, sections 3.3 and 4.

    M + 1 learned queries join the state tokens; the first M become the means of the Gaussians
    (through a sigmoid, so within the image: our choice), the last the M mixture logits. The
    diagonal variance follows a schedule.
    """

    Config = MixtureConfig
    std: Tensor

    def __init__(self, config: MixtureConfig, *, width: int, num_state_tokens: int):
        super().__init__()
        if width % config.heads:
            raise ValueError(f"policy.heads: {config.heads} does not divide the width {width}")
        M = config.components
        self.schedule = config.std
        self.queries = nn.Parameter(torch.empty(M + 1, width))
        nn.init.trunc_normal_(self.queries, std=1.0)  # distinct queries, so distinct means
        self.blocks = nn.ModuleList(_block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.mean = nn.Linear(width, 2)
        nn.init.normal_(self.mean.weight, std=width**-0.5)  # means from 0.27 to 0.73, not all 0.5
        self.logits = nn.Linear(width, M)
        self.register_buffer("std", torch.tensor(config.std.at(0.0)))

    def forward(self, state: Tensor) -> Distribution:
        """Look at the state [B, K, D]; return a mixture, batch [B], event [2].

        It does not check its numbers, nor gazes: a GPU would have to be waited for at each glimpse.
        """
        means, logits = self._mixture(state)
        normal = Normal(means, self.std.expand_as(means), validate_args=False)
        components = Independent(normal, 1, validate_args=False)
        choice = Categorical(logits=logits, validate_args=False)
        return MixtureSameFamily(choice, components, validate_args=False)

    def anneal(self, progress: float) -> None:
        """Set the spread for ``progress``."""
        self.std.fill_(self.schedule.at(progress))

    def best(self, state: Tensor) -> Tensor:
        """Return the mean of the likeliest component [B, 2]."""
        means, logits = self._mixture(state)
        return means[torch.arange(len(means), device=means.device), logits.argmax(1)]

    def _mixture(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Compute means [B, M, 2] and logits [B, M]."""
        tokens = torch.cat([state, self.queries.expand(len(state), -1, -1)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        out = self.norm(tokens[:, state.shape[1] :])  # [B, M + 1, D]
        return self.mean(out[:, :-1]).sigmoid(), self.logits(out[:, -1])


def _block(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
