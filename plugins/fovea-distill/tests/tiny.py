"""A tiny model, objectives on it, and a policy that notes what it is told."""

import torch
from fovea_distill.distill import Distill
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from fovea.config import validate
from fovea.interfaces import GazePolicy, Scene
from fovea.model import FovealModel, assemble
from fovea.parts import create
from fovea.recipe import ModelConfig

MODEL = {
    "patch_size": 16,
    "channels": 1,
    "extractor": {"name": "integral"},
    "context": {"name": "foveal", "zooms": [0, 1], "grid": 2},
    "vit_context": {"name": "grid", "grid": 3},
    "backbone": {
        "name": "timm_vit",
        "arch": "vit_tiny_patch16_224",
        "init": "xavier",
        "mean": [0.5],
        "std": [0.25],
        "width": 16,
        "depth": 1,
        "heads": 2,
        "state_tokens": 3,
    },
    "policy": {"name": "random"},
}
SETTINGS = {
    "teacher": "test_vit",
    "weights": "random",
    "glimpses": 2,
    "view": {"grid": 4, "scale": [0.5, 1.0]},
    "queries": 5,
    "head": {"width": 8, "heads": 2},
}


class Noting(GazePolicy):
    """Notes the scene that it begins with and each gaze that it is told of; looks at the middle."""

    finest_zoom = 7.0

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Scene | Tensor] = []

    def begin(self, scene: Scene) -> GazePolicy:
        self.notes.append(scene)
        return self

    def observe(self, gaze: Tensor) -> None:
        self.notes.append(gaze)

    def forward(self, state: Tensor) -> Distribution:
        return Independent(Normal(torch.full((len(state), 2), 0.5), 0.01), 1)


def tiny_model() -> FovealModel:
    torch.manual_seed(0)
    return assemble(validate(ModelConfig, MODEL))


def build(**settings: object) -> tuple[Distill, FovealModel]:
    model = tiny_model()
    parts = {"backbone": model.backbone, "context": model.context, "policy": model.policy}
    objective: Distill = create("ssl_objective", "distill", **{**SETTINGS, **parts, **settings})
    return objective, model


def noise(model: FovealModel, *sizes: tuple[int, int]) -> Scene:
    """Prepare images of noise, by default of two sizes."""
    generator = torch.Generator().manual_seed(1)
    shapes = sizes or ((64, 64), (80, 64), (64, 100))
    images = [torch.rand(1, *size, generator=generator) for size in shapes]
    return model.extractor.prepare(images)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
