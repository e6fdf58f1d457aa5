"""The linear probe."""

from torch import Tensor, nn

from fovea.interfaces import TaskHead
from fovea.task_head.config import LinearConfig


class Linear(TaskHead):
    """Head ``linear``: one layer on state token 0. Paper, section 4 (best on ImageNet)."""

    Config = LinearConfig

    def __init__(
        self, config: LinearConfig, *, width: int, num_state_tokens: int, num_classes: int
    ):
        super().__init__()
        self.linear = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, state: Tensor) -> Tensor:
        """Classify: state [B, K, D] -> logits [B, classes]."""
        logits: Tensor = self.linear(state[:, 0])
        return logits
