"""Draw the pictures of docs/concepts.md, each from what the code computes.

Usage: python docs/pictures/make_concepts.py    (needs the extra ``bench`` for its photo)
"""

import io
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor

import fovea
from fovea import geometry
from fovea.draws import draw
from fovea.images import Array
from fovea.objective.config import AugmentConfig, Seq2GlobalConfig
from fovea.objective.views import View, ViewDrawer
from fovea.viz.glimpses import Look, compose, show

FOLDER = Path(__file__).parent
RED, BLUE = "#d62728", "#1f77b4"
GLIMPSES = 8


def main() -> None:
    """Draw all of them."""
    draw_all(data.astronaut(), FOLDER, dpi=110)


def draw_all(photo: Array, folder: Path, dpi: int) -> None:
    """Draw all pictures of a photograph, uint8 [H, W, 3], into a folder."""
    pictures = {
        "zoom": zooms(photo),
        "glimpse": glimpse(photo),
        "sequence": sequence(photo),
        "table": table(photo),
        "views": views(photo),
    }
    for name, figure in pictures.items():
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=dpi)
        few_colours = Image.open(drawn).convert("RGB").quantize(256)  # a third of the bytes
        few_colours.save(folder / f"concepts_{name}.png", optimize=True)


def zooms(photo: Array) -> Figure:
    """Show windows of five zooms about one point, and their patches, of two images."""
    wide = photo[len(photo) // 8 : len(photo) // 2]  # another shorter side
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    grid = figure.subplots(2, 6, width_ratios=(1.5, 1, 1, 1, 1, 1))
    for row, image, gaze in zip(grid, (photo, wide), ((0.43, 0.24), (0.43, 0.31)), strict=True):
        scene = fovea.create("patch_extractor", "integral").prepare(image)
        levels = torch.arange(5.0)
        windows = geometry.multizoom(torch.tensor([gaze]), levels)
        show(row[0], image / 255)
        _frames(row[0], windows[0], image, RED)
        row[0].set_title(f"{image.shape[0]} x {image.shape[1]} pixels", fontsize=9)
        sides = geometry.window_sides(levels[None], scene.sizes)[0].tolist()
        for axes, zoom, side, patch in zip(
            row[1:], levels.tolist(), sides, scene.read(windows)[0], strict=True
        ):
            show(axes, _pixels(patch))
            axes.set_title(f"zoom {zoom:g}: {side:g} pixels", fontsize=9)
    return figure


def glimpse(photo: Array) -> Figure:
    """Show the windows of one glimpse, its patches, and the patches where they belong."""
    n = 5
    context = fovea.create("context_builder", "foveal", grid=n)
    gaze = torch.tensor([[0.43, 0.24]])
    one = _look(photo, [context.windows(gaze, _size(photo), None)])
    count = context.num_windows
    first = count - n * n  # of the grid
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 0.86, 1))
    axes = left.subplots()
    show(axes, photo / 255)
    _frames(axes, one.windows[0, :first], photo, BLUE)
    _frames(axes, one.windows[0, first:], photo, RED)
    axes.set_title(f"{first} concentric windows, {n} x {n} adjacent ones", fontsize=9)
    boxes = middle.subplots(first // n + n, n, gridspec_kw={"wspace": 0.05, "hspace": 0.05})
    for place, (axes, patch) in enumerate(zip(boxes.flat, one.patches[0], strict=True)):
        show(axes, _pixels(patch))
        axes.spines[:].set_color(BLUE if place < first else RED)
    middle.suptitle(f"{count} patches of 16 x 16: what the model gets", fontsize=9)
    axes = right.subplots()
    show(axes, compose(one, 1))
    axes.set_title("the same patches, where they lie", fontsize=9)
    return figure


def sequence(photo: Array) -> Figure:
    """Show how closely each place was seen after some glimpses, and how that grows on average."""
    figure = Figure(figsize=(10, 2.7), layout="constrained")
    maps, curve = figure.subfigures(1, 2, width_ratios=(2.6, 1))
    gazes, closest = _closest(sequences=100, side=64)  # [R, S, 2], [R, S, side, side]
    steps, levels = (1, 2, 4, GLIMPSES), (0, 1, 4)  # windows of zoom 2 and 3 lie within the grid
    boxes = maps.subplots(1, len(steps))
    H, W, _ = photo.shape
    for axes, step in zip(boxes, steps, strict=True):
        show(axes, photo / 255)
        seen = np.ma.masked_invalid(closest[0, step - 1])
        axes.imshow(seen, extent=(-0.5, W - 0.5, H - 0.5, -0.5), cmap="viridis", vmin=0, vmax=4)
        x, y = (gazes[0, :step] * torch.tensor([W, H])).T.tolist()
        axes.plot(x, y, "o", color=RED, markersize=3)
        axes.set_title("after 1 glimpse" if step == 1 else f"after {step} glimpses", fontsize=9)
    axes = curve.subplots()
    for zoom in levels:
        share = (closest >= zoom).mean((0, 2, 3))
        axes.plot(range(1, GLIMPSES + 1), share, ".-", color=colormaps["viridis"](zoom / 4))
        axes.text(GLIMPSES + 0.3, share[-1], f"zoom {zoom}", fontsize=8, va="center")
    axes.set(xlim=(0.5, GLIMPSES + 3), ylim=(0, 1.03), xticks=steps, xlabel="glimpses")
    axes.set_title("share of the image seen so closely", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def table(photo: Array) -> Figure:
    """Show one cell of a window, and the four sums that its mean is read from."""
    figure = Figure(figsize=(10, 2.5), layout="constrained")
    first, *others = figure.subplots(1, 5)
    scene = fovea.create("patch_extractor", "integral").prepare(photo)
    H, W, _ = photo.shape
    sums = scene.table.view(H + 1, W + 1, 3).sum(-1)
    window = torch.tensor([[[0.5, 0.5, 0.0]]], dtype=torch.float64)
    low, high = geometry.cells(window, scene.sizes, patch_size=8)
    left, top = low[0, 0, :, 5].long().tolist()
    right, bottom = high[0, 0, :, 5].long().tolist()
    show(first, photo / 255)
    edges = torch.cat([low[0, 0, 0], high[0, 0, 0, -1:]]) - 0.5
    first.hlines(edges, -0.5, W - 0.5, color="white", linewidth=0.4)
    first.vlines(edges, -0.5, H - 0.5, color="white", linewidth=0.4)
    first.set_title("a window's 8 x 8 cells", fontsize=9)
    found = 0
    signs = {(bottom, right): 1, (top, right): -1, (bottom, left): -1, (top, left): 1}
    for axes, ((y, x), sign) in zip(others, signs.items(), strict=True):
        entry = int(sums[y, x])
        found += sign * entry
        show(axes, photo / 255)
        colour = RED if sign > 0 else BLUE
        axes.add_patch(Rectangle((-0.5, -0.5), x, y, color=colour, alpha=0.55, linewidth=0))
        axes.set_title(f"{'+' if sign > 0 else '-'} {entry:,}", fontsize=9, color=colour)
    assert found == photo[top:bottom, left:right].sum(dtype=np.int64)
    for axes in (first, *others):
        cell = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, zorder=3)
        cell.set(edgecolor=RED if axes is first else "white", linewidth=2)
        axes.add_patch(cell)
    figure.supxlabel(f"sum of the cell's pixels: {found:,}", fontsize=9)
    return figure


def views(photo: Array) -> Figure:
    """Show what teacher and student see of an image in one step of sequence-to-global DINO."""
    config = Seq2GlobalConfig(augment=AugmentConfig(flip=0.0))  # frames lie where patches show
    context = fovea.create("context_builder", "foveal")
    drawer = ViewDrawer(config, context, lambda scene, generator: list(_gazes(1, generator)[0]))
    scene = fovea.create("patch_extractor", "integral").prepare(photo)
    generator = torch.Generator().manual_seed(5)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    teacher, student = figure.subfigures(1, 2, width_ratios=(2, 3))
    teacher.suptitle("the teacher: 2 outputs, the targets", fontsize=10)
    outputs = f"1 + {config.locals} + {GLIMPSES} outputs"
    student.suptitle(f"the student: {outputs}, each matched with both targets", fontsize=10)
    for kind, axes in ((True, teacher.subplots(2, 2).T), (False, student.subplots(2, 3).T)):
        globe, *local = axes[:-1]
        _crops(*globe, photo, drawer.globe(scene, generator, teacher=kind), "global view")
        for column in local:
            crops = drawer.locals(scene, generator)
            _crops(*column, photo, crops, f"{config.locals} local views")
        glimpses = drawer.sequence(scene, generator)
        title = f"the last of {GLIMPSES} glimpses" if kind else f"{GLIMPSES} glimpses"
        _glimpses(*axes[-1], photo, glimpses, title)
    return figure


def _crops(where: Axes, what: Axes, photo: Array, view: View, title: str) -> None:
    """Draw the windows of crops, and the crops side by side."""
    where.set_title(title, fontsize=9)
    show(where, photo / 255)
    for windows in view.windows:
        _frames(where, windows, photo, RED, linewidth=0.4)
    tiles = [_joined(patches) for patches in view.patches]  # [n * P, n * P, C]
    columns = math.ceil(len(tiles) ** 0.5)
    if columns > 1:
        gap = ((0, len(tiles[0]) // 16),) * 2
        tiles = [np.pad(tile, (*gap, (0, 0)), constant_values=1) for tile in tiles]
    tiles += [np.ones_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    show(what, np.vstack(rows))


def _glimpses(where: Axes, what: Axes, photo: Array, sequence: list[View], title: str) -> None:
    """Draw the path of the gaze and the grids about it, and all patches laid over each other."""
    where.set_title(title, fontsize=9)
    show(where, photo / 255)
    windows = torch.stack([view.windows[0] for view in sequence])
    look = _looked(photo, windows, torch.stack([view.patches[0] for view in sequence]))
    for grid in windows:
        _frames(where, grid[5:], photo, RED, linewidth=0.4)
    x, y = (look.gazes * _size(photo).flip(1)).T.tolist()
    where.plot(x, y, "o-", color="white", markersize=3, linewidth=1)
    show(what, compose(look, len(sequence)))


def _joined(patches: Tensor) -> NDArray[np.float64]:
    """Put the patches of a grid together: [n * n, C, P, P] -> [n * P, n * P, C]."""
    n = round(len(patches) ** 0.5)
    whole = patches.unflatten(0, (n, n)).permute(0, 3, 1, 4, 2)  # [n, P, n, P, C]
    return whole.flatten(2, 3).flatten(0, 1).double().numpy()


def _closest(sequences: int, side: int) -> tuple[Tensor, NDArray[np.float64]]:
    """Look at random: gazes [R, S, 2]; closest zoom so far at each place [R, S, side, side]."""
    context = fovea.create("context_builder", "foveal")
    gazes = _gazes(sequences, torch.Generator().manual_seed(2))[..., 0, :]
    sizes = torch.tensor([[side, side]]).expand(sequences * GLIMPSES, 2)
    windows = context.windows(gazes.flatten(0, 1), sizes, None)  # [R * S, N, 3]
    left, top, right, bottom = geometry.window_edges(windows, sizes)[..., None].unbind(-2)
    middle = torch.arange(side) + 0.5
    across = (left <= middle) & (middle < right)  # [R * S, N, side]
    down = (top <= middle) & (middle < bottom)
    best = torch.full((len(windows), side, side), -torch.inf)
    for window in range(context.num_windows):
        inside = down[:, window, :, None] & across[:, window, None, :]
        zoom = windows[:, window, 2].float()[:, None, None]
        best = torch.where(inside, best.maximum(zoom), best)
    so_far = best.view(sequences, GLIMPSES, side, side).cummax(1).values
    return gazes, so_far.double().numpy()


def _gazes(sequences: int, generator: torch.Generator) -> Tensor:
    """Draw gazes as an untrained policy does: [R, S, 1, 2]."""
    policy = fovea.create("gaze_policy", "random", width=1, num_state_tokens=1)
    distribution = policy(torch.zeros(sequences, 1, 1))
    gazes = torch.stack([draw(distribution, generator) for _ in range(GLIMPSES)], dim=1)
    return gazes[:, :, None]


def _look(photo: Array, windows: list[Tensor]) -> Look:
    """Read windows [1, N, 3] of some glimpses."""
    scene = fovea.create("patch_extractor", "integral").prepare(photo)
    patches = torch.stack([scene.read(one)[0] for one in windows])
    return _looked(photo, torch.cat(windows), patches)


def _looked(photo: Array, windows: Tensor, patches: Tensor) -> Look:
    return Look(photo, windows[:, 0, :2], windows, patches, [], [])


def _frames(axes: Axes, windows: Tensor, image: Array, colour: str, linewidth: float = 0.8) -> None:
    """Draw the edges of windows [N, 3]."""
    for left, top, right, bottom in geometry.window_edges(windows[None], _size(image))[0].tolist():
        frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False)
        frame.set(edgecolor=colour, linewidth=linewidth)
        axes.add_patch(frame)


def _pixels(patch: Tensor) -> NDArray[np.float64]:
    """Turn a patch [C, P, P] into an image [P, P, C]."""
    return patch.permute(1, 2, 0).double().numpy()


def _size(image: Array) -> Tensor:
    return torch.tensor([image.shape[:2]])


if __name__ == "__main__":
    main()
