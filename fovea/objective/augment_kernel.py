"""Changes of views in two kernels on the GPU: ``fovea.objective.changes.change``, fused.

Contrast needs the mean of a whole view, so a first kernel measures every patch. The second reads a
patch, makes all changes and writes it; blur and mirror image need no pixels of other patches.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fovea.objective.changes import Changes

_DOT = 16  # the shortest side of a matrix that Triton multiplies


def change(patches: Tensor, changes: Changes) -> Tensor:
    """Change views: float32 patches [R, N, C, P, P] in 0..1 -> the same shape, without gradient."""
    R, N, C, P, _ = patches.shape
    out = patches.new_empty(patches.shape)
    if not out.numel():
        return out
    patches, brightness = patches.contiguous(), changes.brightness.contiguous()
    luma = patches.new_empty(R, N)
    with torch.cuda.device_of(patches):
        _measure[(R * N,)](patches, brightness, luma, N, C, P, triton.next_power_of_2(P * P))
    colour, blur = changes.colour, changes.blur
    recolour = (None,) * 3 if colour is None else (colour.saturation, colour.hue, colour.grey)
    others = (changes.contrast, luma.mean(1), *recolour, blur, changes.solarized)
    inputs = [None if one is None else one.contiguous() for one in others]
    side = max(triton.next_power_of_2(P), 1 if blur is None else _DOT)
    warps = min(max(side * side // 128, 1), 8)  # four pixels a thread
    flipped = changes.flipped.contiguous()
    with torch.cuda.device_of(patches):
        grid, sizes = (R * N,), (N, C, P, side)
        _change[grid](patches, out, flipped, brightness, *inputs, *sizes, num_warps=warps)
    return out


@triton.jit
def _clip(value):
    return tl.clamp(value, 0.0, 1.0, propagate_nan=tl.PropagateNan.ALL)  # as torch does


@triton.jit
def _scale(value, middle, factor):
    """Scale the distance from ``middle``, exactly where the factor is 1 or 0."""
    kept = middle - (middle - value) * factor
    return _clip(tl.where(tl.abs(1 - factor) < 0.5, value + (1 - factor) * (middle - value), kept))


@triton.jit
def _luma(red, green, blue):
    return 0.299 * red + 0.587 * green + 0.114 * blue


@triton.jit
def _measure(patches, brightness, out, N, C: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr):
    """Write the mean luma of patch ``program_id(0)`` once brightened."""
    k = tl.program_id(0).to(tl.int64)
    pixel = tl.arange(0, BLOCK)
    live = pixel < P * P
    factor = tl.load(brightness + k // N)
    source = patches + k * C * P * P + pixel
    if C == 3:
        red = _clip(factor * tl.load(source, live, other=0.0))
        green = _clip(factor * tl.load(source + P * P, live, other=0.0))
        blue = _clip(factor * tl.load(source + 2 * P * P, live, other=0.0))
        luma = _luma(red, green, blue)
    else:
        luma = tl.zeros((BLOCK,), tl.float32)
        for c in tl.static_range(C):
            luma += _clip(factor * tl.load(source + c * P * P, live, other=0.0)) / C
    tl.store(out + k, tl.sum(luma, 0) / (P * P))


@triton.jit
def _read(source, live, brightness, contrast, mean):
    """Read a channel of a patch, brighten it and scale its contrast."""
    value = _clip(brightness * tl.load(source, live, other=0.0))
    return _scale(value, mean, contrast)


@triton.jit
def _row(red, green, blue, weights):
    mixed = tl.load(weights) * red + tl.load(weights + 1) * green + tl.load(weights + 2) * blue
    return _clip(mixed)


@triton.jit
def _turn(red, green, blue, share, hue):
    """Scale the saturation of colours, then multiply them by the matrix of the hue."""
    luma = _luma(red, green, blue)
    r, g, b = _scale(red, luma, share), _scale(green, luma, share), _scale(blue, luma, share)
    return _row(r, g, b, hue), _row(r, g, b, hue + 3), _row(r, g, b, hue + 6)


@triton.jit
def _write(target, value, live, blur, solarized, i, j, P: tl.constexpr):
    """Blur a channel of a patch, solarize it and write it."""
    if blur is not None:
        M = tl.load(blur + i * P + j, live, other=0.0)
        value = tl.dot(M, value, input_precision="ieee")
        value = tl.dot(value, tl.trans(M), input_precision="ieee")
    if solarized is not None:
        value = tl.where((value >= 0.5) & tl.load(solarized), 1 - value, value)
    tl.store(target, value, live)


@triton.jit
def _change(
    patches,
    out,
    flipped,
    brightness,
    contrast,
    mean,
    saturation,
    hue,
    grey,
    blur,
    solarized,
    N,
    C: tl.constexpr,
    P: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Write patch ``program_id(0)``, changed: SIDE >= P rows and columns at once."""
    k = tl.program_id(0).to(tl.int64)
    r = k // N
    i, j = tl.arange(0, SIDE)[:, None], tl.arange(0, SIDE)[None, :]
    live = (i < P) & (j < P)
    column = tl.where(tl.load(flipped + r), P - 1 - j, j)
    source = patches + k * C * P * P + i * P + column
    target = out + k * C * P * P + i * P + j
    factor, spread, middle = tl.load(brightness + r), tl.load(contrast + r), tl.load(mean + r)
    if blur is not None:
        blur += r * P * P
    if solarized is not None:
        solarized += r
    if C == 3:
        red = _read(source, live, factor, spread, middle)
        green = _read(source + P * P, live, factor, spread, middle)
        blue = _read(source + 2 * P * P, live, factor, spread, middle)
        red, green, blue = _turn(red, green, blue, tl.load(saturation + r), hue + r * 9)
        luma = _clip(_luma(red, green, blue))
        is_grey = tl.load(grey + r)
        _write(target, tl.where(is_grey, luma, red), live, blur, solarized, i, j, P)
        _write(target + P * P, tl.where(is_grey, luma, green), live, blur, solarized, i, j, P)
        _write(target + 2 * P * P, tl.where(is_grey, luma, blue), live, blur, solarized, i, j, P)
    else:
        for c in tl.static_range(C):
            value = _read(source + c * P * P, live, factor, spread, middle)
            _write(target + c * P * P, value, live, blur, solarized, i, j, P)
