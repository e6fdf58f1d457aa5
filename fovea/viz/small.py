"""Small pictures of images of any size, in memory or not."""

import math

import numpy as np
from PIL import Image

from fovea import geometry
from fovea.images import Array, Unopened
from fovea.interfaces import PatchExtractor, Scene


def small(image: Array | Unopened, extractor: PatchExtractor, side: int) -> Array:
    """Shrink an image to about ``side`` pixels: -> uint8 [h, w, C]."""
    if isinstance(image, np.ndarray):
        return shrunk(image, side)
    return seen_small(extractor.prepare([image]), side)


def shrunk(image: Array, side: int) -> Array:
    """Shrink uint8 [H, W, C] until its shorter side has at most so many pixels."""
    H, W, C = image.shape
    factor = side / min(H, W)
    if factor >= 1:
        return image
    picture = Image.fromarray(image[:, :, 0] if C == 1 else image)
    size = (max(1, round(W * factor)), max(1, round(H * factor)))
    return np.asarray(picture.resize(size, Image.Resampling.BOX)).reshape(size[1], size[0], C)


def seen_small(scene: Scene, side: int) -> Array:
    """Read the whole of a scene of one image, as it is in no memory: -> uint8 [h, w, C].

    Its longer side has ``side`` pixels or a few more, since whole patches are read.
    """
    P = scene.read(geometry.vit_grid(1, scene.sizes)).shape[-1]
    n = math.ceil(side / P)
    windows = geometry.vit_grid(n, scene.sizes)
    patches = scene.read(windows)[0].permute(0, 2, 3, 1).cpu().numpy()  # [n * n, P, P, C]
    size = scene.sizes[0].cpu().numpy()
    h, w = np.maximum(np.rint(size * (n * P / size.max())), 1).astype(int).tolist()
    out = np.zeros((h + 2 * P, w + 2 * P, patches.shape[-1]), np.uint8)  # with a margin
    for (x, y, _), patch in zip(windows[0].tolist(), patches, strict=True):
        top, left = round(y * h + P / 2), round(x * w + P / 2)
        out[top : top + P, left : left + P] = np.rint(patch * 255)
    return out[P : P + h, P : P + w]
