"""Pictures of glimpses: gaze paths over images, and what the model saw of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from fovea import geometry
from fovea.decoding import BadImage
from fovea.evaluate.gazes import Gaze
from fovea.images import Array, Unopened
from fovea.interfaces import DataSet
from fovea.trained import GLIMPSE, Trained
from fovea.viz.small import seen_small, shrunk

_SIDE = 512  # pixels that are kept of an image for a picture; the look itself was at all of them


@dataclass(frozen=True)
class Look:
    """What happened while a model looked at one image.

    Attributes:
        image: uint8 [H, W, C].
        gazes: [S, 2].
        windows: [S, N, 3].
        patches: [S, N, C, P, P], as they were read.
        answers: the class name after each glimpse; empty where no head was trained.
        confidence: its probability after each glimpse; empty as well.
    """

    image: Array
    gazes: Tensor
    windows: Tensor
    patches: Tensor
    answers: list[str]
    confidence: list[float]


@torch.no_grad()
def look(trained: Trained, image: Array | Unopened, gaze: Gaze, glimpses: int, seed: int) -> Look:
    """Look at one image S times and keep everything; of an image not in memory, a small one."""
    model = trained.model
    generator = torch.Generator(model.device).manual_seed(seed)
    scene = model.extractor.prepare([image], model.device)
    choose, state = gaze(scene, None, generator), model.initial_state(1)
    gazes, windows, patches, answers, confidence = [], [], [], [], []
    for _ in range(glimpses):
        point = choose(state)
        window = model.context.windows(point, scene.sizes, None)
        patch = scene.read(window)
        state = model.backbone(patch, window, state)
        if trained.heads is not None:
            probability, answer = trained.heads[GLIMPSE](state)[0].softmax(-1).max(0)
            answers.append(trained.classes[int(answer)])
            confidence.append(float(probability))
        gazes.append(point[0].cpu())
        windows.append(window[0].cpu())
        patches.append(patch[0].cpu())
    stacked = (torch.stack(gazes), torch.stack(windows), torch.stack(patches))
    shown = image if isinstance(image, np.ndarray) else seen_small(scene, _SIDE)
    return Look(shown, *stacked, answers, confidence)


def look_at_some(
    trained: Trained, data: DataSet, gaze: Gaze, glimpses: int, count: int
) -> list[Look]:
    """Look at the first images of a data set that can be read; what is kept of them is shrunk."""
    looks: list[Look] = []
    for index in range(len(data)):
        if len(looks) == count:
            break
        try:
            image = data.sample(index, 0).image
        except BadImage:
            continue
        one = look(trained, image, gaze, glimpses, seed=index)
        looks.append(replace(one, image=shrunk(one.image, _SIDE)))
    return looks


def draw_paths(looks: Sequence[Look], file: Path) -> None:
    """Draw the gaze path over each image, with the answer after the first and last glimpse."""
    figure = Figure(figsize=(2.4 * len(looks), 2.9), layout="constrained")
    for axes, one in zip(figure.subplots(1, len(looks), squeeze=False)[0], looks, strict=True):
        H, W, _ = one.image.shape
        show(axes, one.image / 255)
        x, y = (one.gazes * torch.tensor([W, H]) - 0.5).T.tolist()
        axes.plot(x, y, "-", color="white", linewidth=1, alpha=0.7)
        for step, point in enumerate(zip(x, y, strict=True), 1):
            axes.text(
                *point,
                str(step),
                color="white",
                fontsize=7,
                ha="center",
                va="center",
                bbox={"boxstyle": "circle,pad=0.2", "facecolor": "#d62728", "edgecolor": "none"},
                clip_on=True,
            )
        first, last = one.answers[0], one.answers[-1]
        title = f"1: {first} {one.confidence[0]:.0%}\n"
        title += f"{len(one.answers)}: {last} {one.confidence[-1]:.0%}"
        axes.set_title(title, fontsize=8)
    figure.savefig(file, dpi=150)


def draw_seen(looks: Sequence[Look], file: Path) -> None:
    """Draw each image, and beside it what was seen after 1, 2, 4, ... glimpses.

    Patches are laid over each other from the widest to the closest; grey was never looked at. The
    frames are the windows of the glimpse just made.
    """
    S = len(looks[0].gazes)
    steps = [step for step in (1, 2, 4, 8, 16) if step < S] + [S]
    columns = len(steps) + 1
    figure = Figure(figsize=(2.2 * columns, 2.3 * len(looks)), layout="constrained")
    for row, one in zip(figure.subplots(len(looks), columns, squeeze=False), looks, strict=True):
        show(row[0], one.image / 255)
        row[0].set_title("image", fontsize=8)
        for axes, step in zip(row[1:], steps, strict=True):
            show(axes, compose(one, step))
            _frames(axes, one, step - 1)
            answer = f": {one.answers[step - 1]}" if one.answers else ""
            axes.set_title(f"glimpse {step}{answer}", fontsize=8)
    figure.savefig(file, dpi=150)


def compose(one: Look, glimpses: int) -> NDArray[np.float64]:
    """Lay the patches of the first glimpses over each other -> [H, W, C] in 0..1."""
    H, W, C = one.image.shape
    canvas = np.full((H, W, C), 0.5)
    size = torch.tensor([[H, W]])
    windows = one.windows[:glimpses].flatten(0, 1)
    patches = one.patches[:glimpses].flatten(0, 1)
    edges = geometry.window_edges(windows[None], size)[0]
    for i in windows[:, 2].argsort(stable=True).tolist():
        left, top, right, bottom = edges[i].tolist()
        columns, rows = _pixels(left, right, W), _pixels(top, bottom, H)
        P = patches.shape[-1]
        x = ((columns + 0.5 - left) / (right - left) * P).astype(int)
        y = ((rows + 0.5 - top) / (bottom - top) * P).astype(int)
        canvas[np.ix_(rows, columns)] = patches[i].permute(1, 2, 0).numpy()[np.ix_(y, x)]
    return canvas


def _pixels(low: float, high: float, size: int) -> NDArray[np.int64]:
    """List the pixels whose centre lies between two edges."""
    first, last = max(0, int(np.ceil(low - 0.5))), min(size, int(np.ceil(high - 0.5)))
    return np.arange(first, max(first, last))


def _frames(axes: Axes, one: Look, step: int) -> None:
    H, W, _ = one.image.shape
    edges = geometry.window_edges(one.windows[step][None], torch.tensor([[H, W]]))[0]
    for left, top, right, bottom in edges.tolist():
        corner = (left - 0.5, top - 0.5)
        frame = Rectangle(corner, right - left, bottom - top, fill=False, edgecolor="#d62728")
        frame.set(linewidth=0.6, alpha=0.8)
        axes.add_patch(frame)


def show(axes: Axes, image: NDArray[np.float64]) -> None:
    """Show [H, W, C], grey or in colour; what lies a rounding outside 0..1 is clipped."""
    picture = image.clip(0, 1)
    grey = image.shape[2] == 1
    axes.imshow(picture[:, :, 0] if grey else picture, cmap="gray", vmin=0, vmax=1)
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
