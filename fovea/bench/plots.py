"""Plots: time against image size, both axes logarithmic; and the parts of a training step."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from fovea.bench.names import (
    BARE,
    COPY,
    CV2_AREA,
    CV2_TABLE,
    DECODE,
    DINO,
    GLIMPSES,
    INTEGRAL,
    NAIVE,
    NEAREST,
    ORACLE,
    OURS,
    OURS_READY,
    PARTS,
    PIL_BOX,
    PLAIN,
    TORCH_TABLE,
)
from fovea.bench.results import Extraction, Inference, Training
from fovea.bench.timing import Samples


class _Style(NamedTuple):
    colour: str
    line: str = "-"
    marker: str = "o"
    width: float = 1.2


_OURS, _LIGHT = "#d62728", "#ff9896"
_STYLES = {
    INTEGRAL: _Style(_OURS, width=3),
    NEAREST: _Style(_OURS, "--", width=2),
    CV2_TABLE: _Style(_LIGHT, "-", "s"),
    TORCH_TABLE: _Style(_LIGHT, "--", "^"),
    "integral, torch reader": _Style(_LIGHT, "--", "^"),
    "pyramid": _Style("#9467bd", width=2.5),
    ORACLE: _Style("#8c564b", ":", "x"),
    DECODE: _Style("black", "-", ".", 2),
    NAIVE: _Style("#7f7f7f", "-", "v"),
    COPY: _Style("#7f7f7f", ":", "."),
    CV2_AREA: _Style("#1f77b4", "-", "s"),
    PIL_BOX: _Style("#2ca02c", "-", "D"),
    "PIL.Image": _Style("#2ca02c", "-", "D"),
    "float tensor": _Style("#ff7f0e", "-", "s"),
    "interpolate area": _Style("#ff7f0e", "-", "^"),
    "interpolate antialias": _Style("#ff7f0e", "--", "v"),
    "interpolate antialias, uint8": _Style("#ff7f0e", ":", "v"),
    "roi_align": _Style("#17a2b8", "-", "P"),
    "grid_sample": _Style("#bcbd22", "-", "x"),
    "kornia crop_and_resize": _Style("#bcbd22", "--", "+"),
    GLIMPSES: _Style(_OURS, width=3),
    BARE: _Style(_LIGHT, "--", "."),
    PLAIN: _Style("black", "-", "s", 2),
}
"""How each line looks; ours are red, what a rival prepares has the colour of its glimpse."""

_PART_COLOURS = (
    *("black", "#ffbb78", "#ff7f0e", "#9467bd", "#1f77b4", "#2ca02c", "#aec7e8"),
    *("#8c564b", "#c7c7c7"),
)
"""Of the parts of a step, in their order."""

_OTHERS = _Style(_LIGHT, ":", "d")
_WHOLE = (GLIMPSES, BARE, PLAIN)


_Line = dict[int, float]
"""Values by image side."""


def plot_extraction(run: Extraction, file: Path) -> None:
    """Draw build and glimpse time against image size, a line for each contender."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    left, right = figure.subplots(1, 2)
    builds = {side.side: side.builds for side in run.sides}
    glimpses = {side.side: side.glimpses for side in run.sides}
    _panel(left, "once per image: thread CPU time, ms", _plotted(_milliseconds(builds)))
    _panel(right, "glimpse of 30 windows: thread CPU time, ms", _plotted(_milliseconds(glimpses)))
    figure.savefig(file, dpi=130)


def plot_inference(run: Inference, file: Path) -> None:
    """Draw time against image size, a panel for each batch size, and FLOPs."""
    batches = sorted({point.batch for point in run.points})
    figure = Figure(figsize=(4.5 * (len(batches) + 1), 5), layout="constrained")
    panels = figure.subplots(1, len(batches) + 1)
    for axes, batch in zip(panels, batches, strict=False):
        points = {p.side: p.seconds for p in run.points if p.batch == batch}
        lines = _milliseconds(points)
        _panel(axes, f"batch {batch}: wall time, ms", {n: lines[n] for n in _WHOLE if n in lines})
    flops = {
        GLIMPSES: {side: run.glimpses_flops / 1e9 for side in run.plain_flops},
        PLAIN: {side: count / 1e9 for side, count in run.plain_flops.items()},
    }
    _panel(panels[-1], "GFLOPs an image", flops)
    figure.savefig(file, dpi=130)


def plot_training(run: Training, file: Path) -> None:
    """Draw where the time of a step goes, ours beside DINO's, and both speeds at equal FLOPs."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    bars = [(files, name) for files in reversed(run.files) for name in (DINO, OURS)]
    labels = [f"{name}, {files.side} px" for files, name in bars]
    before = [0.0] * len(bars)
    for part, colour in zip(PARTS, _PART_COLOURS, strict=True):
        lengths = [
            1000 * files.share(name, part) * median(files.seconds[name]) / run.batch
            for files, name in bars
        ]
        left.barh(labels, lengths, left=before, color=colour, label=part)
        before = [start + length for start, length in zip(before, lengths, strict=True)]
    left.set_xlabel("a step over JPEG files: ms an image")
    left.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    speeds = {
        "step,\nviews ready": run.at_equal_flops(run.steps, OURS_READY),
        "step from\ndecoded images": run.at_equal_flops(run.steps, OURS),
        **{
            f"JPEG files,\n{files.side} px": run.at_equal_flops(files.seconds, OURS)
            for files in run.files
        },
    }
    right.bar(list(speeds), list(speeds.values()), color=_OURS)
    right.tick_params("x", labelsize=7)
    right.axhline(1, color="black", linewidth=1)
    right.set_ylabel("img/s x FLOPs, ours / DINO")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)


def _milliseconds(samples: Mapping[int, Samples]) -> dict[str, _Line]:
    """Turn samples by image side into a line of medians for each name."""
    names = dict.fromkeys(name for one in samples.values() for name in one)
    return {
        name: {side: 1000 * median(one[name]) for side, one in samples.items() if name in one}
        for name in names
    }


def _plotted(lines: dict[str, _Line]) -> dict[str, _Line]:
    """Leave out what would lie on another line: back ends of ours that are chosen anyway."""
    hidden = [name for name in lines if name.startswith(INTEGRAL) and name not in _STYLES]
    return {name: line for name, line in lines.items() if name not in hidden}


def _panel(axes: Axes, label: str, lines: Mapping[str, _Line]) -> None:
    for name, line in lines.items():
        style = _STYLES.get(name, _OTHERS)
        axes.loglog(
            list(line),
            list(line.values()),
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            markersize=4,
            linewidth=style.width,
            label=name,
            zorder=style.width,
        )
    sides = sorted({side for line in lines.values() for side in line})
    axes.set_xticks(sides, [str(side) for side in sides])
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axes.minorticks_off()
    axes.set_xlabel("image side, px")
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))
