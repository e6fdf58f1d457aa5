"""The head: what a teacher sees at a place, told from the state and the place."""

from torch import Tensor, nn

from fovea.backbone.position import PositionMLP
from fovea_distill.config import HeadConfig


class Head(nn.Module):
    """Asks the state about windows. A query is no more than a window's (x, y, zoom), embedded.

    Queries attend to each other and to the state tokens; the features come from the state alone.
    """

    def __init__(self, config: HeadConfig, width: int, outputs: int):
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
        """Tell windows: state [R, K, D], windows [R, Q, 3] -> [R, Q, outputs]."""
        tokens = self.blocks(self.position(windows), self.state(state))  # [R, Q, width]
        told: Tensor = self.out(tokens)
        return told
