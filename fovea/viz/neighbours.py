"""Pictures of what a model thinks alike: images, each with the nearest others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from fovea.images import Array
from fovea.interfaces import DataSet, PatchExtractor
from fovea.viz.glimpses import show
from fovea.viz.small import small

_RIGHT, _WRONG = "#2ca02c", "#d62728"
_SIDE = 160  # pixels of an image in the picture


@dataclass(frozen=True)
class Labelled:
    """An image, uint8 [H, W, C], and the name of its class."""

    image: Array
    label: str


def labelled(data: DataSet, index: int, extractor: PatchExtractor) -> Labelled:
    """Read an image of a data set, and shrink it."""
    sample = data.sample(index, 0)
    return Labelled(small(sample.image, extractor, _SIDE), data.classes[sample.label])


def draw_neighbours(rows: Sequence[tuple[Labelled, Sequence[Labelled]]], file: Path) -> None:
    """Draw a row for each image: itself, then the nearest; names of its own class are green."""
    columns = 1 + max(len(alike) for _, alike in rows)
    figure = Figure(figsize=(1.6 * columns, 1.8 * len(rows)), layout="constrained")
    for axes, (asked, alike) in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows, strict=True
    ):
        for place, one in zip(axes, (asked, *alike), strict=True):
            show(place, one.image / 255)
            colour = _RIGHT if one.label == asked.label else _WRONG
            place.set_title(one.label, fontsize=8, color="black" if one is asked else colour)
    figure.savefig(file, dpi=100)
