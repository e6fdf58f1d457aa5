"""What a device reads, held against slow references in float64 and in numpy, on the CPU."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fovea import create
from fovea.bench.limits import Verdict
from fovea.bench.parts import Finding, Setting
from fovea.images import Array, Packed
from fovea.interfaces import Scene, normalise
from fovea.objective.augment import augment
from fovea.objective.config import AugmentConfig

_SIZES = ((1, 1), (7, 300), (300, 7), (64, 64), (64, 64), (333, 517), (3000, 90), (90, 3000))
_WINDOWS = 60
_ROUNDING = 1e-5  # in 0..1, of an average of float32 numbers
_MEAN, _STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
_BFLOAT16 = 2**-8  # relative: twice its rounding


def kernels(setting: Setting) -> Iterator[Finding]:
    """Check tables, reading and augmentation."""
    images = [_noise(height, width) for height, width in _SIZES]
    yield Finding(checks=tuple(_tables(images, setting.device)))
    yield Finding(checks=tuple(_reading(images, setting.device)))
    yield Finding(checks=tuple(_other_pixels(setting.device)))
    yield Finding(checks=tuple(_wrapping(setting.device)))
    yield Finding(checks=tuple(_augmentation(setting.device)))


def within(name: str, difference: float, limit: float) -> Verdict:
    """Allow a difference up to a limit."""
    return Verdict(name, "<=", limit, difference)


def largest(found: Tensor, wanted: Tensor) -> float:
    """Return the largest absolute difference; NaN where either has one."""
    if found.shape != wanted.shape:
        raise ValueError(f"shape {list(found.shape)}, expected {list(wanted.shape)}")
    return float((found.detach().cpu().double() - wanted.detach().cpu().double()).abs().max())


def _tables(images: Sequence[Array], device: str) -> Iterator[Verdict]:
    """Compare tables with numpy's sums, which wrap when they become int32."""
    wanted = np.concatenate([_summed(image) for image in images])
    packed = Packed.of(images)
    given = {"arrays": images, "packed": packed, "packed, there": packed.to(device)}
    extractor = create("patch_extractor", "integral", channels=3)
    for name, one in given.items():
        table = extractor.prepare(one, device).table.cpu().numpy()
        wrong = int((table != wanted).sum()) if table.shape == wanted.shape else wanted.size
        yield within(f"wrong entries of tables, {name}", wrong, 0)


def _reading(images: Sequence[Array], device: str) -> Iterator[Verdict]:
    """Compare patches and tokens with area averages in float64, and ``nearest`` with torch's."""
    windows = _windows(len(images))
    exact = create("patch_extractor", "resize", channels=3).prepare(images).read(windows)
    mean, std = torch.tensor(_MEAN), torch.tensor(_STD)
    tokens = normalise(exact, mean, std)
    scene: Scene = create("patch_extractor", "integral", channels=3).prepare(images, device)
    there = windows.to(device)
    yield within("patches, exact", largest(scene.read(there), exact), _ROUNDING)
    for dtype, limit in ((torch.float32, _ROUNDING / min(_STD)), (torch.bfloat16, _BFLOAT16)):
        found = scene.tokens(there, mean.to(device), std.to(device), dtype)
        size = 1 + tokens.abs()
        name = f"tokens, {str(dtype).removeprefix('torch.')}"
        yield within(name, largest(found.cpu().float() / size, tokens / size), limit)
    slow = create("patch_extractor", "integral", channels=3, mode="nearest", reader="torch")
    fast = create("patch_extractor", "integral", channels=3, mode="nearest")
    found, wanted = fast.prepare(images, device).read(there), slow.prepare(images).read(windows)
    yield within("patches, nearest", largest(found, wanted), _ROUNDING)


def _other_pixels(device: str) -> Iterator[Verdict]:
    """Compare images of uint16 and of float32, and the gradient that reaches the latter."""
    deep = np.random.default_rng(1).integers(0, 2**16, (90, 70, 3), dtype=np.uint16)
    oracle = create("patch_extractor", "resize", channels=3)
    extractor = create("patch_extractor", "integral", channels=3)
    windows = _windows(1)
    found = extractor.prepare([deep], device).read(windows.to(device))
    wanted = oracle.prepare([deep]).read(windows)
    yield within("patches of uint16", largest(found, wanted), _ROUNDING)
    gradients = []
    for way, where in ((oracle, "cpu"), (extractor, device)):
        image = torch.from_numpy(deep.astype(np.float32) / 2**16).permute(2, 0, 1)
        image = image.to(where).requires_grad_()
        way.prepare([image], where).read(windows.to(where)).square().mean().backward()
        assert image.grad is not None
        gradients.append(image.grad.cpu())
    yield within("gradient of float pixels, relative", apart(*gradients), 1e-4)


def _wrapping(device: str) -> Iterator[Verdict]:
    """Read where the sums of a table have left int32."""
    image = np.full((3000, 3000, 3), 255, np.uint8)
    image[2990:, 2990:] = _noise(10, 10)
    windows = torch.tensor([[[0.999, 0.999, 8.0], [0.5, 0.5, 0.0], [0.9, 0.9, 2.5]]]).double()
    wanted = create("patch_extractor", "resize", channels=3).prepare([image]).read(windows)
    scene = create("patch_extractor", "integral", channels=3).prepare([image], device)
    yield within("patches beyond the wrap", largest(scene.read(windows.to(device)), wanted), 1e-5)


def _augmentation(device: str) -> Iterator[Verdict]:
    """Compare with plain torch, which augments patches that ask for a gradient, of equal draws."""
    generator = torch.Generator().manual_seed(2)
    for P, C in ((16, 3), (8, 1)):
        patches = torch.rand(64, 9, C, P, P, generator=generator).to(device)
        windows = _windows(64)[:, :9].to(device)
        grey = {} if C == 3 else {"saturation": 0.0, "hue": 0.0, "grayscale": 0.0}
        found = []
        for has_gradient in (False, True):
            drawing = torch.Generator(device).manual_seed(3)
            given = patches.clone().requires_grad_(has_gradient)
            out = augment(given, windows, AugmentConfig(**grey), 0.5, 0.2, drawing)
            found.append([one.detach() for one in out])
        (patches, windows), (slow, moved) = found
        yield within(f"augmented patches, {C} x {P} x {P}", largest(patches, slow), _ROUNDING)
        yield within(f"augmented windows, {C} x {P} x {P}", largest(windows, moved), 0)


def apart(found: Tensor, wanted: Tensor) -> float:
    """Return the norm of the difference, relative to that of what is wanted."""
    one, other = (tensor.detach().cpu().double().flatten() for tensor in (found, wanted))
    return float((one - other).norm() / other.norm())


def _noise(height: int, width: int) -> Array:
    draws = np.random.default_rng(height * width)
    return draws.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _summed(image: Array) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Sum up all above and to the left: uint8 [H, W, C] -> int32 [(H+1) * (W+1), C]."""
    sums = image.astype(np.int64).cumsum(0).cumsum(1)
    padded = np.pad(sums, ((1, 0), (1, 0), (0, 0))).astype(np.int32)
    return padded.reshape(-1, image.shape[2])


def _windows(batch: int) -> Tensor:
    """Draw windows in and about images: float64 [batch, N, 3], of zooms from -1 to 5."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(batch, _WINDOWS, 3, dtype=torch.float64, generator=generator)
    return drawn * torch.tensor([1.4, 1.4, 6.0]) - torch.tensor([0.2, 0.2, 1.0])
