"""The transformer probe."""

import torch
from torch import Tensor, nn

from fovea.interfaces import TaskHead
from fovea.task_head.config import TransformerConfig


class TransformerHead(TaskHead):
    """Head ``transformer``: one block that pools all state tokens into a learned query.

    Paper, section 4 (best on fine-grained sets).
    """

    Config = TransformerConfig

    def __init__(
        self, config: TransformerConfig, *, width: int, num_state_tokens: int, num_classes: int
    ):
        super().__init__()
        if width % config.heads:
            raise ValueError(f"head.heads: {config.heads} does not divide the width {width}")
        self.query = nn.Parameter(torch.empty(1, width))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.block = nn.TransformerEncoderLayer(
            width,
            config.heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, state: Tensor) -> Tensor:
        """Classify: state [B, K, D] -> logits [B, classes]."""
        tokens = torch.cat([self.query.expand(len(state), -1, -1), state], dim=1)  # [B, 1 + K, D]
        logits: Tensor = self.linear(self.norm(self.block(tokens)[:, 0]))
        return logits
