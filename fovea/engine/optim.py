"""The optimiser: AdamW, its parameter groups, and its schedules."""

from collections.abc import Iterable, Set

import torch
from torch import nn

from fovea.recipe import OptimizerConfig


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], spared: Set[str], config: OptimizerConfig
) -> torch.optim.AdamW:
    """Group what is trained: weight decay spares biases, norms and the ``spared`` names."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            is_free = parameter.ndim <= 1 or name.rpartition(".")[2] in spared
            (free if is_free else decayed).append(parameter)
    groups = [{"params": decayed, "decay": True}, {"params": free, "decay": False}]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, foreach=True)


def set_schedules(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, progress: float
) -> float:
    """Set learning rate and weight decay for ``progress``; return the learning rate."""
    lr = config.lr.at(progress)
    for group in optimizer.param_groups:
        group["lr"] = lr
        group["weight_decay"] = config.weight_decay.at(progress) if group["decay"] else 0.0
    return lr
