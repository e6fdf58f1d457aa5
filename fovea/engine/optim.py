"""The optimiser: AdamW, its parameter groups, and its schedules."""

import torch
from torch import Tensor, nn

from fovea.config import ConfigError
from fovea.recipe import OptimizerConfig, PretrainOptimizerConfig
from fovea.stages.stage import Stage

_EMBEDDING = "patch_embed."


class AdamW(torch.optim.AdamW):
    """Torch's, fused, whose next step may be told on the device to change nothing.

    Attributes:
        found_inf: float32 []. Where it is 1, torch's kernels return before they write, on the CPU
            as on CUDA, and its count of steps is put back: so it works for GradScaler.
    """

    found_inf: Tensor | None = None

    def step_unless(self, bad: Tensor) -> None:
        """Queue a step that leaves weights, averages and counts as they are where ``bad`` is 1."""
        self.found_inf = bad
        self.step()


def build_optimizer(stage: Stage, config: OptimizerConfig) -> AdamW:
    """Group what is trained by weight decay and by the factor on its learning rate.

    Weight decay spares biases, norms and what the stage names.
    """
    spared = stage.no_weight_decay()
    factors = _factors(stage, config)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name.rpartition(".")[2] not in spared
            groups.setdefault((decays, factors.get(parameter, 1.0)), []).append(parameter)
    return AdamW(
        [
            {"params": parameters, "decay": decays, "factor": factor}
            for (decays, factor), parameters in groups.items()
        ],
        lr=0.0,
        betas=config.betas,
        fused=True,
    )


def set_schedules(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, progress: float
) -> float:
    """Set learning rate and weight decay for ``progress``; return the learning rate."""
    lr = config.lr.at(progress)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
        group["weight_decay"] = config.weight_decay.at(progress) if group["decay"] else 0.0
    return lr


def clip_gradients(stage: Stage, greatest: float) -> torch.Tensor:
    """Clip the gradient of each part to a norm, as DINOv2 does; return the norm of all.

    One part with large gradients, such as a fresh head, does not slow down the others.
    """
    parts = [list(module.parameters()) for module in stage.clipped()]
    known = {parameter for part in parts for parameter in part}
    parts.append([one for one in stage.parameters() if one not in known])
    trained = [[one for one in part if one.grad is not None] for part in parts]
    norms = [torch.nn.utils.clip_grad_norm_(part, greatest) for part in trained if part]
    whole = [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack([one.float() for one in whole]))
    return norm


def _factors(stage: Stage, config: OptimizerConfig) -> dict[nn.Parameter, float]:
    """Slow down layers of the backbone towards its input, and its patch embedding."""
    if not isinstance(config, PretrainOptimizerConfig):
        return {}
    factors: dict[nn.Parameter, float] = {}
    has_embedding = False
    for backbone in stage.backbones():
        layers = backbone.layers()
        if config.layer_decay < 1 and not layers:
            raise ConfigError(
                ["pretrain.optimizer.layer_decay: this backbone names no blocks (layers()); set 1"]
            )
        block = {one: i for i, layer in enumerate(layers) for one in layer.parameters()}
        depth = -1  # of the input
        for name, parameter in backbone.named_parameters():
            if parameter in block:
                depth = block[parameter]
            elif depth >= 0:
                depth = len(layers)  # behind the blocks
            factors[parameter] = config.layer_decay ** (len(layers) - depth)
            if name.startswith(_EMBEDDING):
                has_embedding = True
                factors[parameter] *= config.patch_embed_lr
    if config.patch_embed_lr != 1 and not has_embedding:
        raise ConfigError(
            ["pretrain.optimizer.patch_embed_lr: this backbone has no patch_embed; set 1"]
        )
    return factors
