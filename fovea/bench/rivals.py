"""The alternatives: crop and resize each window, or sample it, each in the best way it offers.

A rival is told its windows in pixels beforehand and pays for reading alone. Crops are cut off at
the image's border, which is cheaper than what an extractor does there: a window that is partly
outside comes out stretched.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fovea.bench.contenders import PATCH, Contender
from fovea.bench.looks import Crop, Look
from fovea.bench.names import CV2_AREA, PIL_BOX
from fovea.images import Array

FLOAT_TENSOR = "float tensor"


def rivals(missing: dict[str, str]) -> list[Contender]:
    """List the alternatives; what is not installed goes to ``missing``."""
    tensor = FloatTensor()

    def shared(name: str, read: Callable[[Tensor, Look], Tensor]) -> Contender:
        return Contender(name, FLOAT_TENSOR, tensor.fill, lambda t, look: read(t, look) / 255)

    found = [
        Contender(PIL_BOX, "PIL.Image", Image.fromarray, _pil_box),
        shared("interpolate area", lambda t, look: interpolate(t, look.crops, "area")),
        shared("interpolate antialias", lambda t, look: interpolate(t, look.crops, "antialias")),
        Contender("interpolate antialias, uint8", "none", _as_it_is, _interpolate_uint8),
        shared("roi_align", lambda t, look: roi_align(t, rois(look.edges))),
        shared("grid_sample", lambda t, look: grid_sample(t, look.edges)),
    ]
    optional = {
        "cv2": Contender(CV2_AREA, "none", _as_it_is, _cv2_area),
        "kornia": shared("kornia crop_and_resize", _kornia),
    }
    for package, contender in optional.items():
        if find_spec(package):
            found.append(contender)
        else:
            cure = "pip install 'fovea-vit[bench]'"
            missing[contender.name] = f"{package} is not installed; {cure}"
    return found


class FloatTensor:
    """The image as float32 [1, 3, H, W] in 0..255, in one buffer that its users share and reuse."""

    def __init__(self) -> None:
        self.buffer = torch.empty(0)

    def fill(self, image: Array) -> Tensor:
        """Convert an image; the tensor lives until the next one of another size."""
        H, W, C = image.shape
        if self.buffer.shape != (1, C, H, W):
            self.buffer = torch.empty(1, C, H, W)
        return self.buffer.copy_(torch.from_numpy(image).permute(2, 0, 1)[None])


def interpolate(tensor: Tensor, crops: Sequence[Crop], mode: str) -> Tensor:
    """Resize crops of one image: [1, C, H, W] -> [N, C, P, P]; ``mode`` is area or antialias."""
    how = {"area": ("area", False), "antialias": ("bilinear", True)}
    name, antialias = how[mode]
    patches = [
        F.interpolate(
            tensor[:, :, top:bottom, left:right], (PATCH, PATCH), mode=name, antialias=antialias
        )
        for left, top, right, bottom in crops
    ]
    return torch.cat(patches)


def rois(edges: Tensor) -> Tensor:
    """Write windows as torchvision does: edges [B, N, 4] -> [B * N, 5], each after its image."""
    B, N, _ = edges.shape
    owner = torch.arange(B, device=edges.device, dtype=edges.dtype).repeat_interleave(N)
    return torch.cat([owner[:, None], edges.flatten(0, 1)], dim=1)


def roi_align(tensor: Tensor, rois: Tensor) -> Tensor:
    """Sample windows densely: images [B, C, H, W], rois [R, 5] -> [R, C, P, P]."""
    from torchvision import ops

    patches: Tensor = ops.roi_align(tensor, rois, PATCH, sampling_ratio=-1, aligned=True)
    return patches


def grid_sample(tensor: Tensor, edges: Tensor) -> Tensor:
    """Look up the middle of each cell: images [B, C, H, W], edges [B, N, 4] -> [B * N, C, P, P]."""
    (B, N, _), C = edges.shape, tensor.shape[1]
    low, high = edges[:, :, None].split(2, dim=3)  # [B, N, 1, 2] each
    steps = (torch.arange(PATCH, device=edges.device) + 0.5) / PATCH
    points = (low + (high - low) * steps[:, None]) * (2 / tensor.shape[-1]) - 1  # [B, N, P, 2]
    x = points[..., 0][:, :, None].expand(B, N, PATCH, PATCH)
    y = points[..., 1][..., None].expand(B, N, PATCH, PATCH)
    grid = torch.stack([x, y], dim=-1).view(B, N * PATCH, PATCH, 2)
    sampled = F.grid_sample(tensor, grid, padding_mode="border", align_corners=False)
    return sampled.view(B, C, N, PATCH, PATCH).transpose(1, 2).flatten(0, 1)


def _as_it_is(image: Array) -> Array:
    return image


def _cv2_area(image: Array, look: Look) -> Tensor:
    import cv2

    patches = [
        cv2.resize(image[top:bottom, left:right], (PATCH, PATCH), interpolation=cv2.INTER_AREA)
        for left, top, right, bottom in look.crops
    ]
    return _float_patches(np.stack(patches))


def _pil_box(picture: Image.Image, look: Look) -> Tensor:
    size, box_filter = (PATCH, PATCH), Image.Resampling.BOX
    patches = [np.asarray(picture.resize(size, box_filter, box=box)) for box in look.boxes]
    return _float_patches(np.stack(patches))


def _interpolate_uint8(image: Array, look: Look) -> Tensor:
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]  # a view, channels last
    return interpolate(tensor, look.crops, "antialias").float() / 255


def _kornia(tensor: Tensor, look: Look) -> Tensor:
    """Warp boxes whose corners are the middles of the corner cells, as kornia counts pixels."""
    from kornia.geometry.transform import crop_and_resize

    low, high = look.edges[0].split(2, dim=1)
    half = (high - low) / PATCH / 2
    left, top = (low + half - 0.5).unbind(1)
    right, bottom = (high - half - 0.5).unbind(1)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    boxes = torch.stack([torch.stack(corner, dim=1) for corner in corners], dim=1)  # [N, 4, 2]
    images = tensor.expand(len(boxes), -1, -1, -1)  # a view
    patches: Tensor = crop_and_resize(images, boxes, (PATCH, PATCH))
    return patches


def _float_patches(pixels: Array) -> Tensor:
    """Make a batch of uint8 [N, P, P, 3] float32 [N, 3, P, P] in 0..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
