"""Stage 1: pretrain the backbone without labels. Paper, section 3.1."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
)

from fovea.config import ConfigError
from fovea.interfaces import Backbone, Loss, Scene, SSLObjective
from fovea.model import FovealModel
from fovea.parts import part
from fovea.recipe import PretrainConfig
from fovea.stages.stage import Stage
from fovea.trained import Trained


class Pretrain(Stage):
    """Trains the backbone by an objective; hands on the backbone that the objective names."""

    def __init__(self, config: PretrainConfig, trained: Trained):
        super().__init__()
        self.start = trained
        model = trained.model
        self.objective: SSLObjective = part(
            "ssl_objective",
            config.objective,
            backbone=model.backbone,
            context=model.context,
            policy=model.policy,
        )
        self.finest_zoom = self.objective.finest_zoom
        if config.checkpoint_blocks:
            _forget_activations(model.backbone)
        if config.compile:
            for backbone in self.backbones():
                backbone.compile()

    def forward(
        self, scene: Scene, labels: Tensor, progress: float, generator: torch.Generator
    ) -> Loss:
        """Ask the objective; labels are not looked at."""
        loss: Loss = self.objective(scene, progress, generator)
        return loss

    def update(self, progress: float) -> None:
        """Let the objective follow."""
        self.objective.update(progress)

    def result(self) -> Trained:
        """Return the model with its trained backbone."""
        model = self.start.model
        backbone = self.objective.trained_backbone().eval()
        trained = FovealModel(
            model.config,
            model.extractor,
            model.context,
            model.vit_context,
            backbone,
            model.policy,
        )
        return replace(self.start, model=trained)

    def clipped(self) -> list[nn.Module]:
        """Clip what the objective is made of, e.g. backbone and head, part by part."""
        return list(self.objective.children())

    def no_weight_decay(self) -> set[str]:
        """Spare what the backbone names."""
        return self.start.model.backbone.no_weight_decay()


def _forget_activations(backbone: Backbone) -> None:
    """Have blocks keep their input only, and run again in the backward pass."""
    layers = backbone.layers()
    if not layers:
        raise ConfigError(
            ["pretrain.checkpoint_blocks: this backbone names no blocks (layers()); set false"]
        )
    apply_activation_checkpointing(backbone, check_fn=lambda module: module in layers)
