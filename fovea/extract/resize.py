"""Patches by crop and area resize: the obvious way, whose cost grows with the window.

It is the oracle for faster extractors and the baseline they are compared with.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fovea import geometry
from fovea.extract.config import ResizeConfig
from fovea.images import WHITE, Images, as_images
from fovea.interfaces import PatchExtractor, Scene


class ResizeExtractor(PatchExtractor):
    """Extractor ``resize``: crops each window and averages its cells in float64."""

    Config = ResizeConfig
    takes_packed_on_device = True

    def __init__(
        self,
        config: ResizeConfig,
        *,
        patch_size: int = 16,
        channels: int | None = None,
        fill: tuple[float, ...] = (0.5,),
    ):
        self.patch_size = patch_size
        self.channels = channels
        self.fill = fill

    def prepare(self, images: Images, device: torch.device | str | None = None) -> "ResizeScene":
        """Keep the images as they are."""
        arrays = as_images(images, self.channels)
        C = arrays[0].shape[2]
        if len(self.fill) not in (1, C):
            raise ValueError(f"fill has {len(self.fill)} values, but the images have {C} channels")
        sizes = torch.tensor([image.shape[:2] for image in arrays], device=device)
        fill = torch.tensor(self.fill, dtype=torch.float64, device=device).expand(C)
        return ResizeScene(sizes, [image.to(device) for image in arrays], fill, self.patch_size)


@dataclass(frozen=True, eq=False)
class ResizeScene(Scene):
    """Images of a batch as they came.

    Attributes:
        sizes: int64 [B, 2], (height, width).
        images: [H, W, C] each, of one dtype.
        fill: float64 [C].
        patch_size: P.
    """

    sizes: Tensor
    images: list[Tensor]
    fill: Tensor
    patch_size: int

    def read(self, windows: Tensor) -> Tensor:
        """Read patches: windows [B, N, 3] -> patches [B, N, C, P, P], float32 in [0, 1]."""
        geometry.check_windows(windows.cpu(), self.sizes)  # slow and obvious: it waits for a GPU
        low, high = geometry.cells(windows, self.sizes, self.patch_size)
        B, N, _ = windows.shape
        out = torch.empty(B, N, len(self.fill), self.patch_size, self.patch_size, device=low.device)
        for b, image in enumerate(self.images):
            for i in range(N):
                out[b, i] = self._resize(image, low[b, i], high[b, i])
        return out

    def _resize(self, image: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Average the cells of one window: image [H, W, C], edges [2, P] -> [C, P, P]."""
        columns, across = _overlaps(low[0], high[0], image.shape[1])
        rows, down = _overlaps(low[1], high[1], image.shape[0])
        crop = image[rows, columns].permute(2, 0, 1).double() / WHITE[image.dtype]  # [C, h, w]
        mean = down @ crop @ across.T  # [C, P, P]
        inside = (down.sum(1) > 0)[:, None] & (across.sum(1) > 0)[None, :]
        return torch.where(inside, mean, self.fill[:, None, None])


def _overlaps(low: Tensor, high: Tensor, size: int) -> tuple[slice, Tensor]:
    """Find the pixels of one axis under the cells, and each one's share in each cell's mean."""
    first = min(max(int(low.min().floor()), 0), size)
    last = max(min(int(high.max().ceil()), size), first)
    pixel = torch.arange(first, last, dtype=torch.float64, device=low.device)
    covered = torch.minimum(high[:, None], pixel + 1) - torch.maximum(low[:, None], pixel)
    covered = covered.clamp(min=0)  # [P, pixels]
    return slice(first, last), covered / covered.sum(1, keepdim=True).clamp(min=1e-12)
