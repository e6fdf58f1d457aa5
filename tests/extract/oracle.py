"""What extractors are compared with: the area average, from its definition, one cell at a time."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import fovea
from fovea.interfaces import PatchExtractor

FILL = 0.25
EXACT = ("integral/torch", "integral/numba", "resize")
INTEGRAL = ("integral/torch", "integral/numba")
Image = NDArray[np.uint8]


def extractor(name: str, patch: int = 4, **settings: object) -> PatchExtractor:
    name, _, reader = name.partition("/")
    chosen = {**settings, "reader": reader} if reader else settings
    built: PatchExtractor = fovea.create(
        "patch_extractor", name, patch_size=patch, fill=(FILL,), **chosen
    )
    return built


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Image:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    return drawn.astype(np.uint8)


def draw_windows(
    batch: int, count: int, seed: int = 0, low: float = -3, high: float = 12
) -> Tensor:
    drawn = torch.rand(
        batch, count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return drawn * torch.tensor([2.0, 2.0, high - low]) + torch.tensor([-0.5, -0.5, low])


def overlap(low: float, high: float, size: int) -> tuple[int, int, NDArray[np.float64]]:
    """Length of [low, high] over each pixel that it touches, one pixel at a time."""
    first, last = max(math.floor(low), 0), min(math.ceil(high), size)
    lengths = [min(high, p + 1) - max(low, p) for p in range(first, last)]
    return first, first + len(lengths), np.maximum(np.array(lengths, dtype=np.float64), 0)


def cell_mean(image: Image, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """Average the pixels under one cell (left, top, right, bottom), by their covered area."""
    height, width, channels = image.shape
    x0, x1, across = overlap(box[0], box[2], width)
    y0, y1, down = overlap(box[1], box[3], height)
    area = across.sum() * down.sum()
    if area <= 0:
        return np.full(channels, FILL)
    pixels = image[y0:y1, x0:x1].astype(np.float64) / 255
    weighted = pixels * down[:, None, None] * across[None, :, None]
    mean: NDArray[np.float64] = weighted.sum((0, 1)) / area
    return mean


def brute_force(image: Image, window: Tensor, patch: int, nearest: bool = False) -> Tensor:
    """Read one window [3] -> [C, P, P], from the definition and without fovea.geometry."""
    x, y, zoom = window.tolist()
    height, width, channels = image.shape
    pitch = min(height, width) * 2.0**-zoom / patch
    half = max(pitch, 1.0) / 2
    out = np.empty((channels, patch, patch))
    for row in range(patch):
        for column in range(patch):
            middle_x = x * width + (column - (patch - 1) / 2) * pitch
            middle_y = y * height + (row - (patch - 1) / 2) * pitch
            box = (middle_x - half, middle_y - half, middle_x + half, middle_y + half)
            if nearest:
                box = tuple(math.floor(edge + 0.5 + 1e-6) for edge in box)  # type: ignore[assignment]
            out[:, row, column] = cell_mean(image, box)
    return torch.from_numpy(out).float()


def assert_reads(
    name: str, image: Image, windows: Tensor, patch: int = 4, **settings: object
) -> None:
    found = extractor(name, patch, **settings).prepare(image).read(windows[None])[0]
    nearest = settings.get("mode") == "nearest"
    wanted = torch.stack([brute_force(image, window, patch, nearest) for window in windows])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
