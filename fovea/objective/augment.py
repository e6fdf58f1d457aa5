"""Photometric augmentation of views, applied to the patches that were read.

Each row [R] of patches is one view of one image and gets one draw. Working on patches costs a
fixed amount whatever the image. Brightness, contrast, saturation and grayscale commute with the
averaging that made the patch; solarize and blur do not, so they are those of the patch (our
choice): the blur does not look beyond a patch's edge.
"""

import torch
from torch import Tensor

from fovea import geometry
from fovea.draws import uniform
from fovea.kernels import runs_triton
from fovea.objective.changes import Changes, Colour, blur_matrix, change, hue_matrix
from fovea.objective.config import AugmentConfig
from fovea.precision import full_precision


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
        generator: draws everything, on the device of the patches.
    """
    R, _, C, P, _ = patches.shape
    changes = draw_changes(R, C, P, config, blur, solarize, generator)
    if _is_for_kernel(patches):
        from fovea.objective import augment_kernel

        patches = augment_kernel.change(patches, changes)
    else:
        patches = change(patches, changes)
    return patches, geometry.mirror(windows, changes.flipped)


def draw_changes(
    R: int,
    C: int,
    P: int,
    config: AugmentConfig,
    blur: float,
    solarize: float,
    generator: torch.Generator,
) -> Changes:
    """Draw what happens to R views of patches [C, P, P]; the other arguments are ``augment``'s.

    The sigma of the blur is in pixels of a 224-pixel view of 16 x 16 patches.
    """
    flipped = _happens(R, config.flip, generator)
    jitter = _happens(R, config.jitter, generator)
    brightness = _factor(R, config.brightness, jitter, generator)
    contrast = _factor(R, config.contrast, jitter, generator)
    colour = _draw_colour(R, config, jitter, generator) if C == 3 else None
    matrix = None
    if blur:
        sigma = geometry.draw_uniform((R,), (0.1, 2.0), generator).float() * P / 16
        matrix = blur_matrix(sigma, _happens(R, blur, generator), P)
    solarized = _happens(R, solarize, generator) if solarize else None
    return Changes(flipped, brightness, contrast, colour, matrix, solarized)


def check_channels(config: AugmentConfig, channels: int) -> None:
    """Refuse settings that would have no effect on grey images, with a ValueError."""
    if channels == 3:
        return
    for key in ("saturation", "hue", "grayscale"):
        if getattr(config, key):
            raise ValueError(
                f"objective.augment.{key}: has no effect on images of {channels} channel(s); set 0"
            )


def _is_for_kernel(patches: Tensor) -> bool:
    """Say whether the kernels can change these patches: float32 on CUDA, without a gradient."""
    plain = patches.dtype == torch.float32 and not patches.requires_grad
    return plain and patches.is_cuda and runs_triton(patches.device)


def _draw_colour(
    R: int, config: AugmentConfig, jitter: Tensor, generator: torch.Generator
) -> Colour:
    saturation = _factor(R, config.saturation, jitter, generator)
    turn = geometry.draw_uniform((R,), (-config.hue, config.hue), generator)
    hue = hue_matrix(torch.where(jitter, turn, 0.0).float())
    return Colour(saturation, hue, _happens(R, config.grayscale, generator))


def _happens(R: int, probability: float, generator: torch.Generator) -> Tensor:
    return uniform((R,), generator, torch.float32) < probability


def _factor(R: int, strength: float, where: Tensor, generator: torch.Generator) -> Tensor:
    drawn = geometry.draw_uniform((R,), (1 - strength, 1 + strength), generator)
    return torch.where(where, drawn, 1.0).float()
