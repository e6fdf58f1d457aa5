"""Pictures drawn by code: a shape somewhere in noise, and where it is."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fovea.interfaces import DataSet, Sample
from fovea_template.data_set.config import TemplateConfig

_SPLITS = {"train": 0, "val": 1, "test": 2}


class TemplatePictures(DataSet):
    """Data set ``template``: a disc, a square or a cross; in training another one each epoch.

    The class of an image is its index modulo 3, so it stays; place and size change.
    """

    Config = TemplateConfig
    classes = ("disc", "square", "cross")

    def __init__(
        self, config: TemplateConfig, *, split: Literal["train", "val", "test"], channels: int
    ):
        self.config = config
        self.split = split
        self.channels = channels

    def __len__(self) -> int:
        return self.config.images

    def name(self, index: int) -> str:
        """Name a picture by its split and number."""
        return f"{self.split}/{index}"

    def sample(self, index: int, epoch: int) -> Sample:
        """Draw one picture: a pure function of index and epoch."""
        rng = np.random.default_rng(
            [_SPLITS[self.split], index, epoch if self.split == "train" else 0]
        )
        side, label = self.config.side, index % len(self.classes)
        picture = rng.integers(0, 80, (side, side), dtype=np.uint8)
        radius = rng.uniform(0.1, 0.25) * side  # pixels
        x, y = rng.uniform(radius, side - radius, 2)
        picture[_shape(self.classes[label], side, x, y, radius)] = 220
        box = ((x - radius) / side, (y - radius) / side, (x + radius) / side, (y + radius) / side)
        return Sample(np.repeat(picture[:, :, None], self.channels, axis=2), label, box)


def _shape(name: str, side: int, x: float, y: float, radius: float) -> NDArray[np.bool_]:
    """Say which pixels [side, side] a shape about (x, y) covers."""
    middle = np.arange(side) + 0.5
    right, down = np.abs(middle - x)[None, :], np.abs(middle - y)[:, None]
    covers: dict[str, NDArray[np.bool_]] = {
        "disc": right**2 + down**2 <= radius**2,
        "square": np.maximum(right, down) <= radius,
        "cross": (np.maximum(right, down) <= radius) & (np.minimum(right, down) <= radius / 3),
    }
    return covers[name]
