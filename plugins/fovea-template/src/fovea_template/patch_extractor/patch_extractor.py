"""Patches by two matrix products: one averages the rows of an image, one its columns."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fovea import geometry
from fovea.images import WHITE, Images, as_images
from fovea.interfaces import PatchExtractor, Scene
from fovea_template.patch_extractor.config import TemplateConfig


class TemplateExtractor(PatchExtractor):
    """Extractor ``template``: exact area averages; a patch costs as much as its whole image."""

    Config = TemplateConfig

    def __init__(
        self,
        config: TemplateConfig,
        *,
        patch_size: int = 16,
        channels: int | None = None,
        fill: tuple[float, ...] = (0.5,),
    ):
        self.dtype = {"float32": torch.float32, "float64": torch.float64}[config.sums]
        self.patch_size = patch_size
        self.channels = channels
        self.fill = fill

    def prepare(self, images: Images, device: torch.device | str | None = None) -> "TemplateScene":
        """Bring the images to 0..1."""
        arrays = as_images(images, self.channels)
        pixels = [image.to(device).to(self.dtype) / WHITE[image.dtype] for image in arrays]
        C = pixels[0].shape[2]
        if len(self.fill) not in (1, C):
            raise ValueError(f"fill has {len(self.fill)} values, but the images have {C} channels")
        sizes = torch.tensor([image.shape[:2] for image in pixels], device=device)
        fill = torch.tensor(self.fill, dtype=self.dtype, device=device).expand(C)
        return TemplateScene(sizes, pixels, fill, self.patch_size)


@dataclass(frozen=True, eq=False)
class TemplateScene(Scene):
    """Images of a batch in 0..1.

    Attributes:
        sizes: int64 [B, 2], (height, width).
        images: [H, W, C] each.
        fill: [C], the colour of what lies outside.
        patch_size: P.
    """

    sizes: Tensor
    images: list[Tensor]
    fill: Tensor
    patch_size: int

    def read(self, windows: Tensor) -> Tensor:
        """Read patches: windows [B, N, 3] -> patches [B, N, C, P, P], float32 in [0, 1]."""
        geometry.check_windows(windows, self.sizes)
        low, high = geometry.cells(windows, self.sizes, self.patch_size)  # [B, N, 2, P]
        return torch.stack([self._average(b, low[b], high[b]) for b in range(len(self))])

    def _average(self, b: int, low: Tensor, high: Tensor) -> Tensor:
        """Average image b over cells, whose edges are low and high [N, 2, P] -> [N, C, P, P]."""
        image = self.images[b]
        across = _shares(low[:, 0], high[:, 0], image.shape[1]).to(image.dtype)  # [N, P, W]
        down = _shares(low[:, 1], high[:, 1], image.shape[0]).to(image.dtype)  # [N, P, H]
        mean = torch.einsum("nph,hwc,nqw->ncpq", down, image, across).clamp(0, 1)
        inside = (down.sum(-1) > 0)[:, :, None] & (across.sum(-1) > 0)[:, None, :]  # [N, P, P]
        return torch.where(inside[:, None], mean, self.fill[:, None, None]).float()


def _shares(low: Tensor, high: Tensor, size: int) -> Tensor:
    """Share each cell out among the pixels of one axis: [N, P] -> [N, P, size], sums of 1 or 0."""
    pixel = torch.arange(size, dtype=torch.float64, device=low.device)
    covered = torch.minimum(high[..., None], pixel + 1) - torch.maximum(low[..., None], pixel)
    covered = covered.clamp(min=0)
    return covered / covered.sum(-1, keepdim=True).clamp(min=1e-12)
