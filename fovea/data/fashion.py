"""The embedded data set: real photographs of garments, placed in scenes of any resolution.

6,000 images of Fashion-MNIST (Zalando Research, MIT licence, see fashion_mnist_LICENSE.txt): 4,000
to train and 500 to choose settings by, both from its training set, and 1,500 of its test set.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fovea.data.config import FashionConfig
from fovea.images import Array
from fovea.interfaces import DataSet, Sample

_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_SPLITS = {"train": 0, "val": 1, "test": 2}


class FashionScenes(DataSet):
    """Data set ``fashion``: one garment on black, enlarged smoothly, its box known.

    Where it lies (and the fragments of others that may distract) is drawn per image, in training
    anew each epoch.
    """

    Config = FashionConfig
    classes = _CLASSES

    def __init__(
        self, config: FashionConfig, *, split: Literal["train", "val", "test"], channels: int
    ):
        self.config = config
        self.split = split
        self.channels = channels
        self.garments, self.labels = _load(split)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Name a scene by its split and number."""
        return f"{self.split}/{index}"

    def sample(self, index: int, epoch: int) -> Sample:
        """Draw one scene: a pure function of index and epoch."""
        seed = [_SPLITS[self.split], index, epoch if self.split == "train" else 0]
        rng = np.random.default_rng(seed)
        H, W = self.config.size
        scene = np.zeros((H, W), np.uint8)
        for _ in range(self.config.fragments):
            self._place_fragment(scene, rng)
        low, high = self.config.garment
        side = max(1, round(min(H, W) * rng.uniform(low, high)))
        top, left = rng.integers(0, H - side + 1), rng.integers(0, W - side + 1)
        region = scene[top : top + side, left : left + side]
        np.maximum(region, _enlarge(self.garments[index], side), out=region)
        box = (left / W, top / H, (left + side) / W, (top + side) / H)
        image = np.repeat(scene[:, :, None], self.channels, axis=2)
        return Sample(image, int(self.labels[index]), box)

    def _place_fragment(self, scene: Array, rng: np.random.Generator) -> None:
        """Strew a piece, 10 of 28 pixels a side, of some garment over the scene."""
        H, W = scene.shape
        side = max(1, round(min(H, W) * 0.25))
        y, x = rng.integers(4, 15, size=2)
        piece = self.garments[rng.integers(len(self.garments))][y : y + 10, x : x + 10]
        top, left = rng.integers(0, H - side + 1), rng.integers(0, W - side + 1)
        scene[top : top + side, left : left + side] = _enlarge(piece, side)


def _enlarge(image: Array, side: int) -> Array:
    """Resize to side x side, bilinearly."""
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized)


@cache
def _load(split: str) -> tuple[Array, Array]:
    """Read a split: images uint8 [n, 28, 28], labels uint8 [n]."""
    with np.load(Path(__file__).with_name("fashion_mnist.npz")) as arrays:
        return arrays[f"{split}_images"], arrays[f"{split}_labels"]
