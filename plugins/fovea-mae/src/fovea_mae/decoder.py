"""The decoder: what a window shows, told from the state and the window's place."""

import torch
from torch import Tensor, nn

from fovea.backbone.position import PositionMLP
from fovea_mae.config import DecoderConfig


class Decoder(nn.Module):
    """Asks the state about windows. A query is no more than a window's (x, y, zoom), embedded.

    Queries attend to each other and to the state tokens; the pixels come from the state alone.
    """

    def __init__(self, config: DecoderConfig, width: int, outputs: int):
        super().__init__()
        self.position = PositionMLP(config.width)
        self.state = nn.Linear(width, config.width)
        block = nn.TransformerDecoderLayer(
            config.width,
            config.heads,
            4 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerDecoder(block, config.depth, nn.LayerNorm(config.width))
        self.out = nn.Linear(config.width, outputs)
        for parameter in self.blocks.parameters():  # torch gives all blocks the same weights
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, state: Tensor, windows: Tensor) -> Tensor:
        """Tell windows: state [R, K, D], windows [R, M, 3] -> [R, M, outputs]."""
        tokens = self.blocks(self.position(windows), self.state(state))  # [R, M, width]
        told: Tensor = self.out(tokens)
        return told


def mean_square(told: Tensor, truth: Tensor) -> Tensor:
    """Measure errors over the last axis in float32: [..., outputs] twice -> [...]."""
    with torch.autocast(told.device.type, enabled=False):
        return (told.float() - truth).square().mean(-1)
