"""What is trained: the paper's recipe, at its own size for a GPU, and smaller for a CPU."""

from collections.abc import Sequence
from pathlib import Path

from fovea.backbone.config import TimmViTConfig
from fovea.objective.config import Seq2GlobalConfig
from fovea.recipe import Recipe, read_recipe

_CONFIG = "dino_seq2global"
_MEASURED = (  # crops of 224 and 96 pixels; prototypes learn from the first step on
    "pretrain.epochs=null",
    "pretrain.steps=1000000",
    "pretrain.objective.global_crop.grid=14",
    "pretrain.objective.local_crop.grid=6",
    "pretrain.objective.frozen_prototypes=0",
)
_SMALL = (  # a ViT-Ti of three blocks
    "model.name=vitt16_foveal",
    "model.backbone.depth=3",
    "pretrain.objective.head.prototypes=4096",
    "precision=float32",
)
_TINY = ("model.backbone.depth=1", "pretrain.objective.head.hidden=256")
BATCH = {"cpu": 32, "cuda": 256}
"""Images a step; on a GPU, half as many as long as they do not fit."""

LARGE_BATCH = 1024
"""Images a step of the recipe itself."""


def training_recipe(
    device: str, photos: Path, batch: int, workers: int, quick: bool, changes: Sequence[str] = ()
) -> Recipe:
    """Return what to train on a folder of photographs, with ``key=value`` changes."""
    sizes = {"cpu": _SMALL, "cuda": ()}[device]
    return read_recipe(
        _CONFIG,
        [
            *_MEASURED,
            *sizes,
            *(_TINY if quick else ()),
            f"device={device}",
            f"workers={workers}",
            f"pretrain.batch_size={batch}",
            f"data.root={photos}",
            f"run_dir={photos.parent / 'run'}",
            *changes,
        ],
    )


def objective_config(recipe: Recipe) -> Seq2GlobalConfig:
    """Return the settings of the objective."""
    assert recipe.pretrain is not None
    config = recipe.pretrain.objective.settings
    assert isinstance(config, Seq2GlobalConfig)
    return config


def describe_recipe(recipe: Recipe) -> str:
    """Say what is trained."""
    config, vit = objective_config(recipe), recipe.model.backbone.settings
    assert isinstance(vit, TimmViTConfig)
    blocks = "" if vit.depth is None else f", {vit.depth} blocks"
    large, small = config.global_crop.grid, config.local_crop.grid
    crops = f"crops of {large} x {large} patches, {config.locals} of {small} x {small}"
    head = f"{config.head.prototypes} prototypes"
    return f"{recipe.model.name}{blocks}; {crops}; {config.glimpses} glimpses; {head}"
