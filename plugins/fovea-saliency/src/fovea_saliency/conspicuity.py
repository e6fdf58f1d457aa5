"""What stands out in a coarse picture: differences between centres and their surrounds.

After Itti, Koch and Niebur, "A model of saliency-based visual attention for rapid scene analysis"
(IEEE PAMI 20, 1998), without its orientations. Pictures are ``[B, C, M, M]``; ``inside [B, M, M]``
is the share of each cell that lies in the image, 0..1, and what lies outside counts for nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_SMALL = 1e-6


def saliency(picture: Tensor, inside: Tensor, scales: Sequence[float], surround: float) -> Tensor:
    """Measure how far each cell stands out -> [B, M, M] in 0..1, 1 where it does most.

    The maps of all features and scales are added up, each scaled to 1 and weighted by how much its
    peak stands above its mean: one bright spot counts, an even texture does not. A picture without
    any difference gives 0 everywhere.

    Args:
        picture: [B, C, M, M] in 0..1; C is 1 or 3.
        inside: [B, M, M].
        scales: standard deviations of the centres, shares of M.
        surround: ratio of a surround's standard deviation to its centre's.
    """
    features, weight = opponents(picture), inside[:, None]
    total = torch.zeros_like(inside)
    for scale in scales:
        centre = blur(features, weight, scale)
        differences = (centre - blur(features, weight, scale * surround)).abs() * (weight > 0)
        total = total + promote(differences, weight).sum(1)
    peak = total.amax((1, 2), keepdim=True)
    return torch.where(peak > _SMALL, total / peak.clamp(min=_SMALL), 0.0)


def opponents(picture: Tensor) -> Tensor:
    """Take features: [B, 1, M, M] brightness; of [B, 3, M, M] also red-green and blue-yellow."""
    if picture.shape[1] == 1:
        return picture
    red, green, blue = picture.unbind(1)
    yellow = (red + green) / 2
    return torch.stack([picture.mean(1), red - green, blue - yellow], dim=1)


def blur(features: Tensor, weight: Tensor, scale: float) -> Tensor:
    """Average with Gaussian weights, of what is inside only: [B, F, M, M], weight [B, 1, M, M]."""
    M = features.shape[-1]
    place = torch.arange(M, dtype=features.dtype, device=features.device) / M
    kernel = torch.exp(-((place[:, None] - place) ** 2) / (2 * scale**2))  # [M, M]
    seen = kernel @ (features * weight) @ kernel
    return seen / (kernel @ weight @ kernel).clamp(min=_SMALL)


def promote(maps: Tensor, weight: Tensor) -> Tensor:
    """Scale maps [B, F, M, M] to a peak of 1 and weight each by (1 - its mean)**2.

    The paper takes the mean of the other peaks; the mean of all cells is our choice.
    """
    peak = maps.amax((2, 3), keepdim=True)
    scaled = torch.where(peak > _SMALL, maps / peak.clamp(min=_SMALL), 0.0)
    mean = (scaled * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    return scaled * (1 - mean) ** 2
