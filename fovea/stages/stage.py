"""What the trainer needs to know of a stage."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fovea.interfaces import Backbone, Loss, Scene
from fovea.trained import Trained


class Stage(nn.Module, ABC):
    """One stage of training: the loss of a batch, and what is handed on in the end.

    What it trains and keeps are its submodules: they make up its checkpoint. Frozen parts, which
    come from the stage before, stay outside.

    Attributes:
        finest_zoom: the largest zoom at which it reads images; infinite where it is not known.
        needs_labels: whether images without a label are left out.
    """

    finest_zoom: float = math.inf
    needs_labels: bool = False

    @abstractmethod
    def forward(
        self, scene: Scene, labels: Tensor, progress: float, generator: torch.Generator
    ) -> Loss:
        """Compute the loss of B images with labels [B] at ``progress`` of the schedules, 0..1."""

    def update(self, progress: float) -> None:
        """Follow an optimiser step."""

    @abstractmethod
    def result(self) -> Trained:
        """Return what the next stage starts from."""

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that weight decay spares, besides biases and other 1-D ones."""
        return set()

    def clipped(self) -> list[nn.Module]:
        """List the modules whose gradients are clipped, each by its own norm."""
        return [self]

    def backbones(self) -> list[Backbone]:
        """List the backbones that it keeps."""
        return [module for module in self.modules() if isinstance(module, Backbone)]
