"""Draw told.png, what the state tells of hidden patches.

``python plugins/fovea-mae/make_picture.py RUN_DIR``, of a run that has pretrained.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fovea_mae.hiding import hide
from fovea_mae.mae import MaskedAutoencoder
from matplotlib.figure import Figure
from torch import Tensor

from fovea import geometry
from fovea.engine.checkpoint import load_newest
from fovea.engine.run import build_trainer, load_data
from fovea.images import Array
from fovea.interfaces import Scene
from fovea.objective.views import View
from fovea.recipe import read_recipe
from fovea.viz.glimpses import Look, compose, show

IMAGES = (0, 1, 2, 5)
COLUMNS = (
    "the image", "at once:\nshown", "means alone", "told",
    "a glimpse,\nwhole", "shown", "means alone", "told",
)  # fmt: skip


def main(run_dir: Path) -> None:
    """Draw images of the val split beside this script, by what a run has learned."""
    recipe = read_recipe(str(run_dir / "config.yaml"))
    trainer = build_trainer(recipe, "pretrain")
    contents, _ = load_newest(run_dir / "pretrain")
    if contents is None:
        sys.exit(f"{run_dir}: there is no checkpoint of pretraining")
    trainer.stage.load_state_dict(contents["stage"])
    objective = trainer.stage.eval().get_submodule("objective")
    assert isinstance(objective, MaskedAutoencoder), "draw runs of mae"
    data, generator = load_data(recipe, "val"), torch.Generator().manual_seed(0)
    figure = Figure(figsize=(1.2 * len(COLUMNS), 1.2 * len(IMAGES) + 0.4), layout="constrained")
    rows = figure.subplots(len(IMAGES), len(COLUMNS))
    for row, index in zip(rows, IMAGES, strict=True):
        image = data.sample(index, 0).image
        assert isinstance(image, np.ndarray)
        scene = trainer.extractor.prepare([image])
        pictures = [image / 255, *look(objective, scene, image, generator)]
        for axes, picture in zip(row, pictures, strict=True):
            show(axes, picture)
    for axes, title in zip(rows[0], COLUMNS, strict=True):
        axes.set_title(title, fontsize=8)
    figure.savefig(Path(__file__).with_name("told.png"), dpi=100)


@torch.no_grad()
def look(
    objective: MaskedAutoencoder, scene: Scene, image: Array, generator: torch.Generator
) -> list[Any]:
    """See an image at once, and by one glimpse at its centre: pictures as COLUMNS say."""
    grid = objective.config.global_crop.grid
    globe = geometry.draw_crops(scene.sizes, grid, (1.0, 1.0), 1, generator)[:, 0]
    glimpse = objective.context.windows(torch.full((1, 2), 0.5), scene.sizes, None)
    pictures = []
    for windows in (globe, glimpse):
        view = View(scene.read(windows), windows)
        shown, hidden = hide(view, objective.config.hidden, generator)
        state = objective.student(shown.patches, shown.windows, objective.student.initial_state(1))
        told = objective.decoder(state, hidden.windows)
        means, guess = fill(hidden, torch.zeros_like(told)), fill(hidden, told)
        for views in ([view], [shown], [shown, means], [shown, guess]):
            pictures.append(laid(image, *views))
    return pictures[1:]  # all of a global view is the image


def fill(hidden: View, told: Tensor) -> View:
    """Make patches of normalised pixels, with the mean and deviation that each patch truly has."""
    patches = hidden.patches.flatten(2)
    if told.shape != patches.shape:
        sys.exit("objective.pixels: only runs in which it is the patch size can be drawn")
    deviation, mean = torch.std_mean(patches, -1, correction=0, keepdim=True)
    return View((told * deviation + mean).view_as(hidden.patches), hidden.windows)


def laid(image: Array, *views: View) -> Any:
    """Lay the patches of views over each other, the closest on top."""
    windows = torch.cat([one.windows for one in views], 1)
    patches = torch.cat([one.patches for one in views], 1)
    return compose(Look(image, torch.full((1, 2), 0.5), windows, patches, [], []), 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
