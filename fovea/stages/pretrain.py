"""Stage 1: pretrain the backbone without labels. Paper, section 3.1."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fovea.config import AUTO, Auto, ConfigError
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
        for block in _to_checkpoint(model.backbone, config.checkpoint_blocks):
            _forget_activations(block)
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


def _to_checkpoint(backbone: Backbone, setting: bool | int | Auto) -> list[nn.Module]:
    """Choose the first blocks of a backbone: it is while they run again that least is held.

    By ``auto``, which ``fovea.engine.memory`` replaces on a GPU, it is none.
    """
    blocks = backbone.layers()
    if setting is False or setting == AUTO:
        return []
    if not blocks:
        raise ConfigError(
            ["pretrain.checkpoint_blocks: this backbone names no blocks (layers()); set false"]
        )
    if setting is not True and setting > len(blocks):
        raise ConfigError(
            [f"pretrain.checkpoint_blocks: this backbone has {len(blocks)}, found {setting}"]
        )
    return blocks if setting is True else blocks[:setting]


def _forget_activations(block: nn.Module) -> None:
    """Have a block keep its input only, and run again in the backward pass.

    The module stays what it is, with its name, its weights' names and its hooks.
    """
    forward = partial(checkpoint, block.forward, use_reentrant=False)
    setattr(block, "forward", forward)  # noqa: B010  # mypy forbids the plain assignment
