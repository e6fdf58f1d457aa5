"""Windows and pixels: the only module that converts coordinates; pure functions.

A window ``(x, y, zoom)`` is a square patch of the image: its centre in 0..1 of the image's width
and height (it may lie outside), its side ``m * 2**-zoom`` pixels, where m is the image's shorter
side. All functions take and return float64; ``sizes [B, 2]`` are (height, width) in pixels.
"""

import math

import torch
from torch import Tensor

from fovea.draws import uniform

WIDEST = 64  # window sides overflow long after this many doublings


def window_sides(zoom: Tensor, sizes: Tensor) -> Tensor:
    """Measure windows: zoom [B, N], sizes [B, 2] -> sides in pixels [B, N]. Paper, eq. 1 and 5."""
    shorter = sizes.amin(1, keepdim=True).double()
    return shorter * torch.exp2(-zoom.double())


PIXELS_PER_CELL = 2.0
"""Pixels, along a side, that each cell of the finest windows is averaged from.

Enough for a JPEG decoded at 1/2, 1/4 or 1/8 to give nearly the patches of all its pixels, although
cells end within reduced pixels: patches differ by 1.3 of 255 on photographs (rms; 99.9 % by less
than 12), 2.4 on very sharp ones (18), 5 on the worst, and by half as much one zoom further out.
With 1 pixel it is over twice that; with 3 two thirds, but a photograph of 12 megapixels would be
decoded whole for the paper's recipe. Our choice, measured in docs/benchmarks/decode.md.
"""


def needed_side(zoom: float, patch_size: int) -> int | None:
    """Pixels that an image needs along its shorter side to be read at zooms up to this one.

    None: it needs all that it has, since the zoom is not known or closer than 2**24 pixels show.
    """
    if not zoom < 24:
        return None
    side = PIXELS_PER_CELL * patch_size * math.exp2(zoom)
    return math.ceil(side * (1 - 1e-9))  # rounding of the zoom alone asks for no pixel more


def multizoom(gaze: Tensor, zooms: Tensor) -> Tensor:
    """Lay concentric windows: gaze [B, 2], zooms [L] -> windows [B, L, 3]. Paper, section 2.3."""
    B, L = len(gaze), len(zooms)
    centres = gaze.double()[:, None, :].expand(B, L, 2)
    return torch.cat([centres, zooms.double()[None, :, None].expand(B, L, 1)], dim=2)


def grid(centre: Tensor, zoom: Tensor, n: int, sizes: Tensor) -> Tensor:
    """Lay n x n adjacent windows: centre [B, 2], zoom [B] -> windows [B, n*n, 3]. Paper, eq. 6.

    Row by row from the top left; one zoom for all windows of an image.
    """
    B = len(centre)
    centres = around(centre, grid_cells(n, centre.device), zoom, sizes)
    return torch.cat([centres, zoom.double()[:, None, None].expand(B, n * n, 1)], dim=2)


def grid_cells(n: int, device: torch.device | None = None) -> Tensor:
    """Place n x n adjacent windows about 0, in units of their side, row by row -> [n*n, 2]."""
    offset = torch.arange(n, dtype=torch.float64, device=device) - (n - 1) / 2
    down, right = torch.meshgrid(offset, offset, indexing="ij")
    return torch.stack([right, down], dim=-1).reshape(n * n, 2)


def around(centre: Tensor, cells: Tensor, zoom: Tensor, sizes: Tensor) -> Tensor:
    """Go from centre [B, 2] by cells [N, 2], in sides of a window of zoom [B] -> [B, N, 2]."""
    side = window_sides(zoom[:, None], sizes)[:, :, None]  # [B, 1, 1] pixels
    return centre.double()[:, None, :] + cells * side / _width_height(sizes)[:, None, :]


def vit_grid(n: int, sizes: Tensor) -> Tensor:
    """Cover the whole image: sizes [B, 2] -> windows [B, n*n, 3], evenly spread.

    Our choice for images that are not square: windows touch along the longer side and overlap
    along the shorter, so that nothing is left unseen and nothing is distorted. On a square image
    this is the ViT's grid of the paper.
    """
    B = len(sizes)
    steps = (torch.arange(n, dtype=torch.float64, device=sizes.device) + 0.5) / n
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    shorter, longer = sizes.amin(1).double(), sizes.amax(1).double()
    zoom = torch.log2(n * shorter / longer)[:, None].expand(B, n * n)
    return torch.stack([x.reshape(1, -1).expand(B, -1), y.reshape(1, -1).expand(B, -1), zoom], 2)


def crop_zoom(n: int, area: float) -> float:
    """Zoom at which an n x n grid covers ``area`` of the m x m square. Paper, eq. 7."""
    return math.log2(n / math.sqrt(area))


def crop_area(n: int, zoom: float) -> float:
    """Share of the m x m square that an n x n grid covers at a zoom: undoes ``crop_zoom``."""
    return float((n * 2.0**-zoom) ** 2)


def draw_crops(
    sizes: Tensor, n: int, scale: tuple[float, float], count: int, generator: torch.Generator
) -> Tensor:
    """Draw random crops inside the image: sizes [B, 2] -> windows [B, count, n*n, 3].

    ``scale`` bounds the area share, which is drawn uniformly in area as torchvision's crop does
    (our choice; the paper only bounds it). The centre is uniform where the grid stays inside.
    """
    B = len(sizes)
    draws = uniform((B * count, 3), generator).to(sizes.device)
    area = scale[0] + (scale[1] - scale[0]) * draws[:, 0]
    zoom = torch.log2(n / torch.sqrt(area))
    repeated = sizes.repeat_interleave(count, 0)
    half = n * window_sides(zoom[:, None], repeated) / _width_height(repeated) / 2  # [B*count, 2]
    centre = half + draws[:, 1:] * (1 - 2 * half)
    return grid(centre, zoom, n, repeated).reshape(B, count, n * n, 3)


def draw_uniform(
    shape: tuple[int, ...], bounds: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw float64 numbers [R, ...] uniformly within bounds, on the generator's device."""
    return bounds[0] + (bounds[1] - bounds[0]) * uniform(shape, generator)


def mirror(windows: Tensor, where: Tensor) -> Tensor:
    """Mirror windows [B, N, 3] left to right where [B] is true, as if the image were flipped."""
    x = torch.where(where[:, None], 1 - windows[..., 0], windows[..., 0])
    return torch.cat([x[..., None], windows[..., 1:]], dim=-1)


def window_edges(windows: Tensor, sizes: Tensor) -> Tensor:
    """Find the borders of windows [B, N, 3] -> [B, N, 4]: left, top, right, bottom in pixels."""
    centre = windows[..., :2].double() * _width_height(sizes)[:, None, :]
    half = window_sides(windows[..., 2], sizes)[..., None] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def coverage(windows: Tensor, sizes: Tensor) -> Tensor:
    """Measure the share of each window's area that lies inside its image: [B, N, 3] -> [B, N]."""
    limit = _width_height(sizes)[:, None, :]
    side, centre = window_sides(windows[..., 2], sizes), windows[..., :2].double() * limit
    half = side[..., None] / 2
    low, high = (centre - half).clamp(min=0), torch.minimum(centre + half, limit)
    return (high - low).clamp(min=0).prod(-1) / side**2


def cells(windows: Tensor, sizes: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    """Divide windows [B, N, 3] into target cells: their low and high edges, each [B, N, 2, P].

    Index 0 of the third axis is x, index 1 is y; edges are in pixels and may lie outside. A cell
    is at least one pixel wide, about its own centre: a patch that enlarges is then interpolated
    bilinearly instead of showing blocks (our choice; the paper leaves it open).
    """
    centre = windows[..., :2].double() * _width_height(sizes)[:, None, :]  # [B, N, 2]
    side = window_sides(windows[..., 2], sizes)[..., None, None] / patch_size  # [B, N, 1, 1]
    offset = torch.arange(patch_size, dtype=torch.float64, device=windows.device)
    middle = centre[..., None] + (offset - (patch_size - 1) / 2) * side  # [B, N, 2, P]
    half = side.clamp(min=1.0) / 2
    return middle - half, middle + half


def check_windows(windows: Tensor, sizes: Tensor) -> None:
    """Refuse windows that cannot be read, with a ValueError that says why.

    Numbers are looked at on the CPU only, since fetching them from a GPU makes the host wait for
    it. There ``IntegralScene`` reads NaN from windows that are not finite or below zoom -64.
    """
    if windows.ndim != 3 or windows.shape[-1] != 3:
        raise ValueError(f"windows must be [B, N, 3], got {list(windows.shape)}")
    if len(windows) != len(sizes):
        raise ValueError(f"windows are for {len(windows)} images, the scene has {len(sizes)}")
    if windows.numel() == 0 or windows.device.type != "cpu":
        return
    low, high = (bound.item() for bound in windows.aminmax())  # NaN where there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("windows (or the gaze they come from) are not all finite numbers")
    if low < -WIDEST and (lowest := windows[..., 2].min().item()) < -WIDEST:
        raise ValueError(f"windows have a zoom of {lowest:g}; expected {-WIDEST} or more")


def inside_box(gaze: Tensor, boxes: Tensor) -> Tensor:
    """Say which gazes [..., 2] lie in their box [..., 4] = (x0, y0, x1, y1), all in 0..1."""
    after = (gaze >= boxes[..., :2]).all(-1)
    before = (gaze <= boxes[..., 2:]).all(-1)
    return after & before


def _width_height(sizes: Tensor) -> Tensor:
    return sizes.flip(1).double()
