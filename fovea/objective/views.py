"""The views that the objective compares: crops by windows, and sequences of glimpses."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fovea import geometry
from fovea.interfaces import ContextBuilder, Scene
from fovea.objective.augment import augment
from fovea.objective.config import CropConfig, Seq2GlobalConfig

Gazes = Callable[[Scene, torch.Generator], list[Tensor]]
"""Draws the S gazes [B, 2] of a sequence before it begins."""


@dataclass(frozen=True)
class View:
    """What a network sees at once: patches [R, N, C, P, P] at windows [R, N, 3]."""

    patches: Tensor
    windows: Tensor


class ViewDrawer:
    """Draws views of a scene. Paper, section 3.1: crops are grids of windows, nothing is resized.

    Every image gets its own crop or gazes, and its own photometric augmentation per view.
    """

    def __init__(self, config: Seq2GlobalConfig, context: ContextBuilder, gazes: Gazes):
        self.config = config
        self.context = context
        self.gazes = gazes

    @property
    def finest_zoom(self) -> float:
        """The largest zoom of any view; augmentation reads nothing and so no closer."""
        config = self.config
        crops = [config.global_crop, *([config.local_crop] if config.locals else [])]
        zooms = [geometry.crop_zoom(crop.grid, crop.scale[0]) for crop in crops]
        return max(self.context.finest_zoom, *zooms)

    def globe(self, scene: Scene, generator: torch.Generator, teacher: bool) -> View:
        """Draw one global view of each image: R = B."""
        strengths = self.config.augment
        blur = strengths.blur_teacher if teacher else strengths.blur_student
        solarize = 0.0 if teacher else strengths.solarize
        return self._crops(scene, self.config.global_crop, 1, blur, solarize, generator)

    def locals(self, scene: Scene, generator: torch.Generator) -> View:
        """Draw V local views of each image, image by image: R = B * V."""
        config = self.config
        blur = config.augment.blur_local
        return self._crops(scene, config.local_crop, config.locals, blur, 0.0, generator)

    def sequence(self, scene: Scene, generator: torch.Generator) -> list[View]:
        """Draw a sequence of S glimpses of each image: S views with R = B, augmented alike.

        The gazes are drawn before the sequence begins, as the paper's random glimpses are.
        """
        N, gazes = self.context.num_windows, self.gazes(scene, generator)
        windows = [self.context.windows(gaze, scene.sizes, generator) for gaze in gazes]
        blur = self.config.augment.blur_local
        view = self._view(scene, torch.cat(windows, dim=1), 1, blur, 0.0, generator)
        steps = zip(view.patches.split(N, 1), view.windows.split(N, 1), strict=True)
        return [View(patches, windows) for patches, windows in steps]

    def _crops(
        self,
        scene: Scene,
        crop: CropConfig,
        count: int,
        blur: float,
        solarize: float,
        generator: torch.Generator,
    ) -> View:
        windows = geometry.draw_crops(scene.sizes, crop.grid, crop.scale, count, generator)
        return self._view(scene, windows.flatten(1, 2), count, blur, solarize, generator)

    def _view(
        self,
        scene: Scene,
        windows: Tensor,
        count: int,
        blur: float,
        solarize: float,
        generator: torch.Generator,
    ) -> View:
        """Read windows [B, count * N, 3] and augment each of the B * count views."""
        N = windows.shape[1] // count
        patches = scene.read(windows).unflatten(1, (count, N)).flatten(0, 1)  # [R, N, C, P, P]
        windows = windows.unflatten(1, (count, N)).flatten(0, 1)  # [R, N, 3]
        return View(*augment(patches, windows, self.config.augment, blur, solarize, generator))
