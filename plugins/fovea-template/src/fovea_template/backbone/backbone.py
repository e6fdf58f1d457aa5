"""A small transformer in plain PyTorch: state and patches are tokens of one sequence."""

import torch
from torch import Tensor, nn

from fovea.interfaces import Backbone, normalise
from fovea_template.backbone.config import TemplateConfig


class TemplateBackbone(Backbone):
    """Backbone ``template``: the state tokens that come out are the next state."""

    Config = TemplateConfig
    _mean: Tensor
    _std: Tensor

    def __init__(self, config: TemplateConfig, *, patch_size: int, channels: int):
        super().__init__()
        if config.width % config.heads:
            raise ValueError(
                f"backbone.heads: {config.heads} does not divide the width {config.width}"
            )
        self.width = config.width
        self.num_state_tokens = config.state_tokens
        self.mean, self.std = (config.mean,) * channels, (config.std,) * channels
        self.state_tokens = nn.Parameter(0.02 * torch.randn(config.state_tokens, config.width))
        self.embed = nn.Linear(channels * patch_size**2, config.width)
        self.position = nn.Sequential(
            nn.Linear(3, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("_mean", torch.tensor(self.mean), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std), persistent=False)

    def initial_state(self, batch: int) -> Tensor:
        """Return the learned first state [batch, K, D]."""
        return self.state_tokens.expand(batch, -1, -1)

    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        """See: patches [B, N, C, P, P], windows [B, N, 3], state [B, K, D] -> state [B, K, D]."""
        position = self.position(windows.to(self.state_tokens.dtype))
        seen = self.embed(normalise(patches, self._mean, self._std)) + position  # [B, N, D]
        tokens = torch.cat([state.to(seen.dtype), seen], dim=1)  # [B, K + N, D]
        for block in self.blocks:
            tokens = block(tokens)
        following: Tensor = self.norm(tokens[:, : self.num_state_tokens])
        return following

    def no_weight_decay(self) -> set[str]:
        """Spare the state tokens."""
        return {"state_tokens"}

    def layers(self) -> list[nn.Module]:
        """Return the blocks, input first."""
        return list(self.blocks)


def _block(config: TemplateConfig) -> nn.Module:
    return nn.TransformerEncoderLayer(
        config.width,
        config.heads,
        4 * config.width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
