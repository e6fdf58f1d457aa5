"""What components are tried on: small pictures of several sizes, windows and scenes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fovea.images import Array
from fovea.interfaces import Scene
from fovea.parts import create

SIDES = ((24, 40), (33, 21), (16, 16), (48, 30))
"""Height and width of the pictures."""

PATCH = 8
CHANNELS = 3
WIDTH = 24  # 1, 2, 3, 4, 6, 8 and 12 heads divide it
STATE_TOKENS = 3


def pictures() -> list[Array]:
    """Draw four smooth pictures with a little noise, uint8 [H, W, 3]."""
    noise = np.random.default_rng(0)
    drawn = []
    for number, (height, width) in enumerate(SIDES):
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / (3 + c) + number) + np.cos(y / (4 + c)) for c in range(CHANNELS)]
        bright = 128 + 50 * np.stack(waves, axis=-1) + noise.normal(0, 4, (height, width, CHANNELS))
        drawn.append(bright.clip(0, 255).astype(np.uint8))
    return drawn


def sizes(batch: int = len(SIDES), device: str = "cpu") -> Tensor:
    """Return sizes of images, int64 [batch, 2], (height, width)."""
    repeats = -(-batch // len(SIDES))
    return torch.tensor(SIDES * repeats, device=device)[:batch]


def windows(batch: int, count: int, seed: int = 0) -> Tensor:
    """Draw windows in and about images: float64 [batch, count, 3], of zooms from -1 to 3."""
    drawn = random((batch, count, 3), seed).double()
    return drawn * torch.tensor([1.4, 1.4, 4.0]) - torch.tensor([0.2, 0.2, 1.0])


def random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Draw float32 numbers in 0..1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def scene(device: str = "cpu", given: list[Array] | None = None, **settings: Any) -> Scene:
    """Prepare the pictures, or others, by the extractor ``integral``."""
    extractor = create("patch_extractor", "integral", patch_size=PATCH, reader="torch", **settings)
    prepared: Scene = extractor.prepare(given or pictures(), device)
    return prepared


class WatchedScene(Scene):
    """A scene that remembers the largest zoom at which it was read."""

    def __init__(self, inner: Scene):
        self.inner = inner
        self.sizes = inner.sizes
        self.finest = -float("inf")

    def read(self, windows: Tensor) -> Tensor:
        """Read patches: windows [B, N, 3] -> patches [B, N, C, P, P]."""
        if windows.numel():
            self.finest = max(self.finest, float(windows[..., 2].max()))
        return self.inner.read(windows)
