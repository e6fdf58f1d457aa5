"""Does accuracy survive larger images? Paper, figure 1.

The same images are enlarged and classified by the same weights: by glimpses and in ViT mode, whose
windows are shares of the image; and with patches of as many pixels as at the original size, as a
plain ViT cuts them: more and more patches, each showing less and less. A plain ViT knows where such
a patch lies (its positions are interpolated) but not how small a share of the image it has become:
``fixed_pixels``. Told their true zoom, which no plain ViT is, the same patches do better:
``fixed_pixels_zoom_known``.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fovea import geometry
from fovea.data.loader import all_batches
from fovea.evaluate.accuracy import classify
from fovea.evaluate.gazes import Gaze
from fovea.images import Array, Unopened
from fovea.interfaces import DataSet, Scene
from fovea.model import FovealModel
from fovea.trained import VIT, Trained


def finest_zoom(model: FovealModel, factor: int) -> float:
    """The largest zoom at which images are read when enlarged up to a factor."""
    return max(model.finest_zoom, math.log2(_grid(model) * factor))


@torch.no_grad()
def enlarged_accuracy(
    trained: Trained,
    data: DataSet,
    factor: int,
    gaze: Gaze,
    glimpses: int,
    images: int,
    batch_size: int,
) -> dict[str, float]:
    """Classify the first images of a split, enlarged; the gazes are the same for each factor.

    Raises:
        ValueError: an image is not in memory.
    """
    assert trained.heads is not None
    generator = torch.Generator(trained.model.device).manual_seed(0)
    right = {"glimpses": 0, "vit": 0, "fixed_pixels": 0, "fixed_pixels_zoom_known": 0}
    total = 0
    for batch in (one.labelled() for one in all_batches(data, batch_size)):
        batch_images = batch.images[: images - total]
        if not batch_images:
            break
        scene = trained.model.extractor.prepare(
            [_enlarge(*one, factor) for one in zip(batch_images, batch.names, strict=False)],
            trained.model.device,
        )
        labels = batch.labels[: len(batch_images)]
        there = None if batch.boxes is None else batch.boxes.to(trained.model.device)
        boxes = None if there is None else there[: len(batch_images)]
        answers, _ = classify(trained, scene, boxes, gaze, glimpses, generator)
        right["glimpses"] += _count(answers[-1], labels)
        right["vit"] += _count(_vit_answers(trained, scene, 1, True), labels)
        right["fixed_pixels"] += _count(_vit_answers(trained, scene, factor, False), labels)
        known = _vit_answers(trained, scene, factor, True)
        right["fixed_pixels_zoom_known"] += _count(known, labels)
        total += len(batch_images)
    return {name: count / total for name, count in right.items()}


def _vit_answers(trained: Trained, scene: Scene, finer: int, zoom_known: bool) -> Tensor:
    """Classify by a grid over the whole image, ``finer`` times as fine as the ViT mode's.

    Unless the zoom is known, the position embedding is given that of the ViT mode's grid.
    """
    assert trained.heads is not None
    model = trained.model
    windows = geometry.vit_grid(_grid(model) * finer, scene.sizes)
    patches = scene.read(windows)
    if not zoom_known:
        windows[..., 2] -= math.log2(finer)
    state = model.backbone(patches, windows, model.initial_state(len(scene)))
    answers: Tensor = trained.heads[VIT](state).argmax(1)
    return answers


def _grid(model: FovealModel) -> int:
    """Windows per side in ViT mode."""
    return round(math.sqrt(model.vit_context.num_windows))


def _count(answers: Tensor, labels: Tensor) -> int:
    return int((answers.cpu() == labels).sum())


def _enlarge(image: Array | Unopened, name: str, factor: int) -> Array:
    """Enlarge uint8 [H, W, C] bilinearly."""
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"{name}: only images in memory can be enlarged; leave out the test with "
            "evaluate.enlarge=[] in the config, enlarge=[] as an argument"
        )
    H, W, C = image.shape
    picture = Image.fromarray(image[:, :, 0] if C == 1 else image)
    larger = picture.resize((W * factor, H * factor), Image.Resampling.BILINEAR)
    return np.asarray(larger).reshape(H * factor, W * factor, C)
