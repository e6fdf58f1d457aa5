"""The projection head of DINO."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fovea.objective.config import HeadConfig


class ProjectionHead(nn.Module):
    """Three layers to a bottleneck on the sphere, then one unit-length weight per prototype.

    Paper, section 4, after DINOv2. The length of the prototypes learns, as for DINO's ViT-S.
    """

    def __init__(self, config: HeadConfig, width: int):
        super().__init__()
        hidden = [width, config.hidden, config.hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(hidden):
            layers.append(nn.Linear(inputs, outputs, bias=not config.batch_norm))
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(outputs))
            layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers, nn.Linear(config.hidden, config.bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
        self.prototypes = weight_norm(
            nn.Linear(config.bottleneck, config.prototypes, bias=False), dim=0
        )
        nn.init.ones_(self.prototypes.parametrizations.weight.original0)

    def forward(self, features: Tensor, frozen_prototypes: bool = False) -> Tensor:
        """Project features [R, D] -> logits [R, prototypes]."""
        bottleneck = F.normalize(self.mlp(features), dim=-1, eps=1e-6)
        weight = self.prototypes.weight
        return F.linear(bottleneck, weight.detach() if frozen_prototypes else weight)
