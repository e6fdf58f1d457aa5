"""A head of two layers on the mean of the state tokens."""

from torch import Tensor, nn

from fovea.interfaces import TaskHead
from fovea_template.task_head.config import TemplateConfig


class TemplateHead(TaskHead):
    """Head ``template``: looks at all state tokens alike."""

    Config = TemplateConfig

    def __init__(
        self, config: TemplateConfig, *, width: int, num_state_tokens: int, num_classes: int
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, num_classes)
        )

    def forward(self, state: Tensor) -> Tensor:
        """Classify: state [B, K, D] -> logits [B, classes]."""
        logits: Tensor = self.layers(state.mean(1))
        return logits
