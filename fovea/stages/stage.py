"""What the trainer needs to know of a stage."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fovea.interfaces import Loss, Scene
from fovea.trained import Trained


class Stage(nn.Module, ABC):
    """One stage of training: the loss of a batch, and what is handed on in the end.

    What it trains and keeps are its submodules: they make up its checkpoint. Frozen parts, which
    come from the stage before, stay outside.

    Attributes:
        finest_zoom: the largest zoom at which it reads images; infinite where it is not known.
    """

    finest_zoom: float = math.inf

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
