"""Curves: accuracy per glimpse, accuracy against image size."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLES = {
    "random": ("#7f7f7f", "-"),
    "fixed centre": ("#bcbd22", ":"),
    "centre Gaussian": ("#17a2b8", "--"),
    "oracle": ("#2ca02c", "--"),
    "policy": ("#d62728", "-"),
    "policy, greedy": ("#d62728", ":"),
}
"""Colour and line of each way to gaze."""


def plot_accuracy(results: dict[str, Any], file: Path) -> None:
    """Draw accuracy after each glimpse, a curve for each way to gaze, bands for the gaze seeds."""
    figure, axes = _figure("glimpses", "accuracy, %")
    for name, one in results["gazes"].items():
        colour, line = STYLES[name]
        _curve(axes, one, name, colour, line)
    if "random_init" in results:
        _curve(axes, results["random_init"]["random"], "random, untrained", "#c7c7c7", "-")
    axes.axhline(100 * results["vit"], color="black", linewidth=1, label="ViT mode")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(file, dpi=150)


def plot_enlarged(results: dict[str, Any], file: Path) -> None:
    """Draw accuracy against image size, for windows that are shares of it and fixed pixels."""
    figure, axes = _figure("image enlarged by", "accuracy, %")
    factors = [int(factor) for factor in results["enlarge"]]
    labels = {
        "glimpses": ("random glimpses", "#d62728"),
        "vit": ("ViT mode (windows are shares of the image)", "black"),
        "fixed_pixels": ("same weights, patches of fixed pixels", "#7f7f7f"),
        "fixed_pixels_zoom_known": ("... told their zoom", "#c7c7c7"),
    }
    for key, (label, colour) in labels.items():
        values = [100 * one[key] for one in results["enlarge"].values()]
        axes.plot(factors, values, "o-", color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(factors, [f"{factor}x" for factor in factors])
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(file, dpi=150)


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def _curve(axes: Axes, one: dict[str, Any], name: str, colour: str, line: str) -> None:
    steps = range(1, len(one["accuracy"]) + 1)
    mean = [100 * value for value in one["accuracy"]]
    spread = [100 * value for value in one["spread"]]
    axes.plot(steps, mean, line, color=colour, label=name)
    low = [m - s for m, s in zip(mean, spread, strict=True)]
    high = [m + s for m, s in zip(mean, spread, strict=True)]
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
