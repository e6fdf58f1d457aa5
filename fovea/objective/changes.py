"""What augmentation does to views once it is drawn, in torch: on any device, slow and obvious.

Each row [R] of patches is one view. On CUDA ``fovea.objective.augment_kernel`` does the same in two
kernels; here every change reads and writes all patches.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Colour:
    """What happens to the colours of R views.

    Attributes:
        saturation: float32 [R], factor of a colour's distance from its luma.
        hue: float32 [R, 3, 3], what colours are multiplied by.
        grey: bool [R], colours become their luma.
    """

    saturation: Tensor
    hue: Tensor
    grey: Tensor


@dataclass(frozen=True)
class Changes:
    """What happens to R views, in this order.

    Attributes:
        flipped: bool [R], mirrored left to right.
        brightness: float32 [R], factor.
        contrast: float32 [R], factor of the distance from the view's mean luma.
        colour: None where patches have no colour, i.e. other than three channels.
        blur: float32 [R, P, P], M: a patch X becomes M X M'; None: no view is blurred.
        solarized: bool [R], 0.5 and more are inverted; None: no view is solarized.
    """

    flipped: Tensor
    brightness: Tensor
    contrast: Tensor
    colour: Colour | None
    blur: Tensor | None
    solarized: Tensor | None


def change(patches: Tensor, changes: Changes) -> Tensor:
    """Change views: patches [R, N, C, P, P] in 0..1 -> the same shape."""
    patches = torch.where(_rows(changes.flipped), patches.flip(-1), patches)
    patches = patches.mul_(_rows(changes.brightness)).clamp_(0, 1)
    mean = _luma(patches.mean(dim=(1, 3, 4), keepdim=True))  # [R, 1, 1, 1, 1]
    patches = patches.lerp_(mean, 1 - _rows(changes.contrast)).clamp_(0, 1)
    if changes.colour is not None:
        patches = _recolour(patches, changes.colour)
    if changes.blur is not None:
        patches = _blur(patches, changes.blur)
    if changes.solarized is not None:
        inverted = torch.where(patches >= 0.5, 1 - patches, patches)
        patches = torch.where(_rows(changes.solarized), inverted, patches)
    return patches


def hue_matrix(turn: Tensor) -> Tensor:
    """Turn colours about the grey axis by ``turn`` [R] of a full circle -> matrices [R, 3, 3].

    Rodrigues' rotation: cos * identity + sin * cross product + (1 - cos) * projection on the axis,
    whose entries along each diagonal are alike.
    """
    angle = turn * 2 * torch.pi
    cos, side = angle.cos(), angle.sin() * 3**-0.5
    shared = (1 - cos) * (1 / 3)
    same, left, right = cos + shared, shared - side, shared + side
    entries = [same, left, right, right, same, left, left, right, same]
    return torch.stack(entries, dim=-1).view(-1, 3, 3)


def blur_matrix(sigma: Tensor, where: Tensor, P: int) -> Tensor:
    """Weigh P pixels of a row or column for each of P blurred ones: [R] -> [R, P, P].

    Beyond a patch's edge its last pixels are repeated.

    Args:
        sigma: float32 [R], of the Gaussian, in pixels.
        where: bool [R]; the matrix of others is the identity.
        P: pixels.
    """
    reach = min(P - 1, 4)
    steps = torch.arange(-reach, reach + 1, device=sigma.device)
    kernel = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    kernel = torch.where(where[:, None], kernel, (steps == 0).float())
    kernel = kernel / kernel.sum(1, keepdim=True)  # [R, K]
    pixels = torch.arange(P, device=sigma.device)
    reached = (pixels[:, None] + steps).clamp(0, P - 1)  # [P, K]
    taken = (reached[..., None] == pixels).float()  # [P, K, P]
    return torch.einsum("rk,pkq->rpq", kernel, taken)


def _rows(values: Tensor) -> Tensor:
    """Broadcast one value per view [R] over its patches."""
    return values.view(-1, 1, 1, 1, 1)


def _recolour(patches: Tensor, colour: Colour) -> Tensor:
    patches = patches.lerp_(_luma(patches), 1 - _rows(colour.saturation)).clamp_(0, 1)
    patches = torch.einsum("rij,rnjhw->rnihw", colour.hue, patches).clamp_(0, 1)
    patches = torch.where(_rows(colour.grey), _luma(patches), patches)
    return patches.clamp_(0, 1)


def _luma(patches: Tensor) -> Tensor:
    """Brightness of colour [R, N, 3, P, P] -> [R, N, 1, P, P]; other channels are averaged."""
    if patches.shape[2] != 3:
        return patches.mean(2, keepdim=True)
    channels = zip(_LUMA, patches.split(1, 2), strict=True)
    red, green, blue = (weight * channel for weight, channel in channels)
    luma: Tensor = red.add_(green).add_(blue)
    return luma


def _blur(patches: Tensor, M: Tensor) -> Tensor:
    """Multiply: patches [R, N, C, P, P] by M [R, P, P]; takes a fifth of a convolution's time."""
    R, N, C, P, _ = patches.shape
    rows = patches.reshape(R, N * C * P, P) @ M.mT
    blurred: Tensor = M[:, None] @ rows.view(R, N * C, P, P)
    return blurred.view(R, N, C, P, P)
