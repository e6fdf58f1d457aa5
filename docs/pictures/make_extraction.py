"""Draw the pictures of docs/extraction.md, each from what the code computes.

Usage: python docs/pictures/make_extraction.py    (needs the extra ``bench`` for its photo)
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from skimage import data

import fovea
from fovea import geometry

FOLDER = Path(__file__).parent
RED, BLUE, GREY = "#d62728", "#1f77b4", "#7f7f7f"


def main() -> None:
    """Draw all of them."""
    draw_table()
    draw_wrap()
    draw_modes()
    draw_border()


def draw_table() -> None:
    """A small image, its table, and the four entries that give one box."""
    image = np.random.default_rng(3).integers(0, 10, (5, 6, 1)).astype(np.uint8)
    scene = fovea.create("patch_extractor", "integral").prepare(image)
    table = scene.table.view(6, 7).numpy()
    top, left, bottom, right = 1, 2, 4, 5
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    pixels, sums = figure.subplots(1, 2, width_ratios=(6, 7))
    _numbers(pixels, image[..., 0], "pixels")
    box = (left - 0.5, top - 0.5)
    pixels.add_patch(Rectangle(box, right - left, bottom - top, fill=False, ec=RED, lw=3))
    _numbers(sums, table, "table: sum of all pixels above and to the left of each corner")
    corners = {(bottom, right): 1, (top, right): -1, (bottom, left): -1, (top, left): 1}
    for (y, x), sign in corners.items():
        colour = RED if sign > 0 else BLUE
        sums.add_patch(Rectangle((x - 0.45, y - 0.45), 0.9, 0.9, fill=False, ec=colour, lw=3))
    terms = [table[corner] for corner in corners]
    found = terms[0] - terms[1] - terms[2] + terms[3]
    assert found == image[top:bottom, left:right].sum()
    pixels.set_xlabel(f"sum in the frame: {found}", color=RED)
    sums.set_xlabel(f"{terms[0]} - {terms[1]} - {terms[2]} + {terms[3]} = {found}", color=RED)
    figure.savefig(FOLDER / "extraction_table.png", dpi=120)


def draw_wrap() -> None:
    """Entries wrap around, boxes do not; a float32 table loses the small numbers instead."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    entries, errors = figure.subplots(1, 2)
    side = 6000
    diagonal = np.arange(side + 1)
    true = 255 * diagonal.astype(np.int64) ** 2
    white = torch.full((side, side, 1), 255, dtype=torch.uint8)
    scene = fovea.create("patch_extractor", "integral").prepare(white.permute(2, 0, 1))
    stored = scene.table.view(side + 1, side + 1)[diagonal, diagonal].numpy()
    entries.plot(diagonal, true, color=GREY, label="true sum")
    entries.plot(diagonal, stored, color=RED, label="entry, int32")
    entries.set_xlabel("corner (x, x) of a white image")
    entries.legend(frameon=False)
    sides = (448, 896, 1792, 3584)
    float_errors, int_errors = zip(*(_corner_errors(side) for side in sides), strict=True)
    errors.plot(sides, float_errors, "o-", color=GREY, label="float32 table")
    errors.plot(sides, int_errors, "o-", color=RED, label="int32 table")
    errors.set_yscale("log")
    errors.set_xlabel("side of the image, pixels")
    errors.set_ylabel("rms error of a mean, of 255")
    errors.legend(frameon=False)
    for axes in (entries, errors):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FOLDER / "extraction_wrap.png", dpi=120)


def _corner_errors(side: int) -> tuple[float, float]:
    """Rms error of means of 2 x 2 pixels in the far corner, from a float32 and an int32 table."""
    image = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    wanted = image[-64:, -64:].reshape(32, 2, 32, 2).mean((1, 3), dtype=np.float64)
    wide = image.astype(np.float32).cumsum(0, dtype=np.float32).cumsum(1, dtype=np.float32)
    corners = np.pad(wide, ((1, 0), (1, 0)))[-65::2, -65::2]
    rounded = np.diff(np.diff(corners, axis=0), axis=1) / 4
    scene = fovea.create("patch_extractor", "integral", patch_size=32).prepare(image)
    middle = 1 - 32 / side
    window = torch.tensor([[[middle, middle, np.log2(side / 64)]]], dtype=torch.float64)
    exact = scene.read(window)[0, 0, 0].double().numpy() * 255
    rms = [float(np.sqrt(((found - wanted) ** 2).mean())) for found in (rounded, exact)]
    return rms[0], rms[1]


def draw_modes() -> None:
    """Cells from four pixels to a quarter of one, in both modes."""
    photo = data.astronaut()
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    grid = figure.subplots(2, 4)
    for column, pixels in enumerate((4.0, 1.5, 0.875, 0.25)):
        zoom = np.log2(min(photo.shape[:2]) / (16 * pixels))
        window = torch.tensor([[[0.402, 0.207, zoom]]], dtype=torch.float64)
        for row, mode in enumerate(("nearest", "exact")):
            reader = fovea.create("patch_extractor", "integral", mode=mode)
            patch = reader.prepare(photo).read(window)[0, 0].permute(1, 2, 0)
            axes = grid[row, column]
            axes.imshow(patch.numpy(), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(mode)
            if row == 0:
                axes.set_title(f"{pixels:g} pixels per cell", fontsize=10)
    figure.savefig(FOLDER / "extraction_modes.png", dpi=120)


def draw_border() -> None:
    """A window over the border: divided by the true area, and by the nominal one."""
    photo = data.astronaut()
    reader = fovea.create("patch_extractor", "integral", fill=tuple(photo.mean((0, 1)) / 255))
    scene = reader.prepare(photo)
    window = torch.tensor([[[0.1, 0.5, 1.4]]], dtype=torch.float64)
    patch = scene.read(window)[0, 0].permute(1, 2, 0).numpy()
    low, high = geometry.cells(window, scene.sizes, 16)
    inside = (high.clamp(0, photo.shape[0]) - low.clamp(0, photo.shape[0])).clamp(min=0)
    share = (inside / (high - low))[0, 0]  # [2, P]
    nominal = patch * (share[1][:, None] * share[0][None, :])[..., None].numpy()
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    whole, true, dark = figure.subplots(1, 3)
    whole.imshow(photo)
    x0, y0, x1, y1 = geometry.window_edges(window, scene.sizes)[0, 0].tolist()
    whole.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=RED, lw=2))
    whole.set_xlim(x0 - 20, photo.shape[1])
    covered = geometry.coverage(window, scene.sizes).item()
    whole.set_title(f"{covered:.0%} of the window inside", fontsize=10)
    true.imshow(patch, interpolation="nearest")
    true.set_title("true area, mean colour outside", fontsize=10)
    dark.imshow(nominal, interpolation="nearest")
    dark.set_title("nominal area: the border darkens", fontsize=10)
    for axes in (whole, true, dark):
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(FOLDER / "extraction_border.png", dpi=120)


def _numbers(axes: Axes, values: np.ndarray, title: str) -> None:
    """Show an array of numbers as tiles."""
    axes.imshow(values, cmap="Greys", vmin=0, vmax=2 * int(values.max()))
    for (y, x), value in np.ndenumerate(values):
        axes.text(x, y, str(value), ha="center", va="center")
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


if __name__ == "__main__":
    main()
