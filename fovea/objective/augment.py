"""Photometric augmentation of views, applied to the patches that were read.

Each row [R] of patches is one view of one image and gets one draw. Working on patches costs a
fixed amount whatever the image. Brightness, contrast, saturation and grayscale commute with the
averaging that made the patch; solarize and blur do not, so they are those of the patch (our
choice): the blur does not look beyond a patch's edge.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea import geometry
from fovea.draws import uniform
from fovea.objective.config import AugmentConfig
from fovea.precision import full_precision

_LUMA = (0.299, 0.587, 0.114)


@full_precision()
def augment(
    patches: Tensor,
    windows: Tensor,
    config: AugmentConfig,
    blur: float,
    solarize: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Augment views: patches [R, N, C, P, P] in 0..1, windows [R, N, 3] -> the same shapes.

    Args:
        patches: of R views.
        windows: where they were read; a mirrored view lies at mirrored places.
        config: strengths and probabilities.
        blur: probability of blur for this kind of view.
        solarize: probability of inverting what is above 0.5, for this kind of view.
        generator: draws everything.
    """
    R, C = len(patches), patches.shape[2]
    flipped = _happens(R, config.flip, generator)
    windows = geometry.mirror(windows, flipped)
    patches = torch.where(_rows(flipped), patches.flip(-1), patches)
    jitter = _happens(R, config.jitter, generator)
    patches = _brightness(patches, _factor(R, config.brightness, jitter, generator))
    patches = _contrast(patches, _factor(R, config.contrast, jitter, generator))
    if C == 3:
        patches = _saturation(patches, _factor(R, config.saturation, jitter, generator))
        turn = geometry.draw_uniform((R,), (-config.hue, config.hue), generator)
        patches = _hue(patches, torch.where(jitter, turn, 0.0))
        grey = _happens(R, config.grayscale, generator)
        patches = _saturation(patches, torch.where(grey, 0.0, 1.0))
    if blur:
        sigma = geometry.draw_uniform((R,), (0.1, 2.0), generator)
        patches = _blur(patches, sigma, _happens(R, blur, generator))
    if solarize:
        inverted = torch.where(patches >= 0.5, 1 - patches, patches)
        patches = torch.where(_rows(_happens(R, solarize, generator)), inverted, patches)
    return patches, windows


def check_channels(config: AugmentConfig, channels: int) -> None:
    """Refuse settings that would have no effect on grey images, with a ValueError."""
    if channels == 3:
        return
    for key in ("saturation", "hue", "grayscale"):
        if getattr(config, key):
            raise ValueError(
                f"objective.augment.{key}: has no effect on images of {channels} channel(s); set 0"
            )


def _happens(R: int, probability: float, generator: torch.Generator) -> Tensor:
    return uniform((R,), generator, torch.float32) < probability


def _factor(R: int, strength: float, where: Tensor, generator: torch.Generator) -> Tensor:
    drawn = geometry.draw_uniform((R,), (1 - strength, 1 + strength), generator)
    return torch.where(where, drawn, 1.0)


def _rows(values: Tensor) -> Tensor:
    """Broadcast one value per view [R] over its patches; numbers become float32."""
    values = values if values.dtype == torch.bool else values.float()
    return values.view(-1, 1, 1, 1, 1)


def _brightness(patches: Tensor, factor: Tensor) -> Tensor:
    return patches.mul_(_rows(factor)).clamp_(0, 1)


def _contrast(patches: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(patches.mean(dim=(1, 3, 4), keepdim=True))  # [R, 1, 1, 1, 1]
    return patches.lerp_(mean, 1 - _rows(factor)).clamp_(0, 1)


def _saturation(patches: Tensor, factor: Tensor) -> Tensor:
    return patches.lerp_(_luma(patches), 1 - _rows(factor)).clamp_(0, 1)


def _luma(patches: Tensor) -> Tensor:
    """Brightness of colour [R, N, 3, P, P] -> [R, N, 1, P, P]; other channels are averaged."""
    if patches.shape[2] != 3:
        return patches.mean(2, keepdim=True)
    red, green, blue = (weight * patches[:, :, [i]] for i, weight in enumerate(_LUMA))
    return red.add_(green).add_(blue)


def _hue(patches: Tensor, turn: Tensor) -> Tensor:
    """Turn colours about the grey axis by ``turn`` of a full circle (Rodrigues' rotation)."""
    angle = turn.float() * 2 * torch.pi
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    grey = torch.full((3, 3), 1 / 3, device=patches.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=patches.device) / 3**0.5
    identity = torch.eye(3, device=patches.device)
    matrix = cos * identity + sin * cross + (1 - cos) * grey  # [R, 3, 3]
    return torch.einsum("rij,rnjhw->rnihw", matrix, patches).clamp_(0, 1)


def _blur(patches: Tensor, sigma: Tensor, where: Tensor) -> Tensor:
    """Blur each patch by a Gaussian of sigma pixels for a 224-pixel view of 16 x 16 patches.

    Beyond a patch's edge its last pixels are repeated. A patch X becomes M X M', where M weighs the
    pixels of a row or column: matrix products take a fifth of the time of convolutions.
    """
    R, N, C, P, _ = patches.shape
    M = _weights(sigma.float() * P / 16, where, P)  # [R, P, P]
    rows = patches.reshape(R, N * C * P, P) @ M.mT
    blurred: Tensor = M[:, None] @ rows.view(R, N * C, P, P)
    return blurred.view(R, N, C, P, P)


def _weights(sigma: Tensor, where: Tensor, P: int) -> Tensor:
    """Weigh P pixels for each of P blurred ones: sigma [R], where [R] -> [R, P, P]."""
    reach = min(P - 1, 4)
    steps = torch.arange(-reach, reach + 1, device=sigma.device)
    kernel = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    kernel = torch.where(where[:, None], kernel, (steps == 0).float())
    kernel = kernel / kernel.sum(1, keepdim=True)  # [R, K]
    pixels = torch.arange(P, device=sigma.device)
    reached = (pixels[:, None] + steps).clamp(0, P - 1)  # [P, K]
    taken = F.one_hot(reached, P).float()  # [P, K, P]
    return torch.einsum("rk,pkq->rpq", kernel, taken)
