"""The projection head of DINO."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fovea import collective
from fovea.config import number
from fovea.objective.config import HeadConfig
from fovea.precision import full_precision


class ProjectionHead(nn.Module):
    """Three layers to a bottleneck on the sphere, then one unit-length weight per prototype.

    Paper, section 4, after DINOv2. The length of the prototypes learns, as for DINO's ViT-S.
    """

    def __init__(self, config: HeadConfig, width: int):
        super().__init__()
        prototypes = number(config.prototypes, "head.prototypes")
        hidden = [width, config.hidden, config.hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(hidden):
            layers.append(nn.Linear(inputs, outputs, bias=not config.batch_norm))
            if config.batch_norm:
                layers.append(SharedBatchNorm(outputs))
            layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers, nn.Linear(config.hidden, config.bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
        self.prototypes = weight_norm(nn.Linear(config.bottleneck, prototypes, bias=False), dim=0)
        nn.init.ones_(self.prototypes.parametrizations.weight.original0)

    def forward(self, features: Tensor) -> Tensor:
        """Project features [R, D] -> logits [R, prototypes]."""
        return F.linear(self.project(features), self.prototypes.weight)

    def project(self, features: Tensor) -> Tensor:
        """Project features [R, D] to the sphere on which the prototypes lie [R, bottleneck]."""
        return F.normalize(self.mlp(features), dim=-1, eps=1e-6)


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the rows of all processes, on any device; torch's own needs CUDA."""

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise rows [R, D]."""
        if collective.world() == 1 or not self.training:
            return super().forward(rows)
        with full_precision():
            return self._over_all(rows.float())

    def _over_all(self, rows: Tensor) -> Tensor:
        count = collective.total(rows.new_full((), len(rows)))
        mean = collective.total(rows.sum(0)) / count
        variance = collective.total((rows - mean).square().sum(0)) / count
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            unbiased = variance * count / (count - 1)
            for average, measured in ((self.running_mean, mean), (self.running_var, unbiased)):
                assert average is not None
                assert self.momentum is not None
                average.lerp_(measured, self.momentum)
        return (rows - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
