"""The picture of the README: a synthetic slide, its tissue and regions, and glimpses at one.

``python -m fovea_wsi.picture FILE.png``
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

import fovea
from fovea import geometry
from fovea.extract.files import open_source
from fovea.interfaces import PatchExtractor
from fovea.viz.glimpses import Look, compose
from fovea.viz.small import seen_small
from fovea_wsi.config import CELLS
from fovea_wsi.crop import Crop
from fovea_wsi.synthetic import Synthetic
from fovea_wsi.tissue import tissue_mask
from fovea_wsi.wsi import corners

SIDE, REGION = 8192, 1024
_GAZES = ((0.5, 0.45), (0.25, 0.6), (0.7, 0.75), (0.6, 0.2))


def draw(slide: Path, picture: Path) -> None:
    """Draw a slide of SIDE x SIDE pixels."""
    source = open_source(slide)
    mask = tissue_mask(source, REGION // CELLS, None)
    places = corners(mask, 0.25) * REGION
    x, y = places[len(places) // 2].tolist()
    extractor = fovea.create("patch_extractor", "pyramid", channels=3)
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    slide_axes, mask_axes, region_axes, seen_axes = figure.subplots(1, 4)
    _show(slide_axes, seen_small(extractor.prepare([source]), 512), "a slide, and its regions")
    for left, top in places.tolist():
        _frame(slide_axes, np.array([left, top, REGION, REGION]) * 512 / SIDE, "#1f77b4")
    _frame(slide_axes, np.array([x, y, REGION, REGION]) * 512 / SIDE, "#d62728")
    _show(mask_axes, mask, f"its tissue, in cells of {REGION // CELLS} pixels")
    look = _look(extractor, Crop(source, x, y, REGION, REGION, "region"))
    _show(region_axes, look.image, "the red region, windows of 4 glimpses")
    for edges in geometry.window_edges(look.windows, torch.tensor([[512, 512]] * len(_GAZES))):
        for left, top, right, bottom in edges.tolist():
            _frame(region_axes, np.array([left, top, right - left, bottom - top]), "#d62728")
    _show(seen_axes, compose(look, len(_GAZES)), "all that was seen of it")
    figure.savefig(picture, dpi=80)


def _look(extractor: PatchExtractor, region: Crop) -> Look:
    """Look at a region from four points."""
    scene = extractor.prepare([region])
    context = fovea.create(
        "context_builder", "foveal", zooms=[0, 1, 2], grid=5, grid_zoom=[3.0, 4.5],
        grid_zoom_eval=4.0,
    )  # fmt: skip
    gazes = torch.tensor(_GAZES)
    windows = torch.cat([context.windows(gaze[None], scene.sizes, None) for gaze in gazes])
    patches = torch.cat([scene.read(one[None]) for one in windows])
    return Look(seen_small(scene, 512), gazes, windows, patches, [], [])


def _show(axes: Axes, image: NDArray[Any], title: str) -> None:
    axes.imshow(image, cmap="gray_r", extent=(0, 512, 512, 0))
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _frame(axes: Axes, box: NDArray[Any], colour: str) -> None:
    left, top, width, height = box.tolist()
    frame = Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=0.8)
    axes.add_patch(frame)


def main() -> int:
    """Run the command; return its exit code."""
    if len(sys.argv) != 2:
        print("usage: python -m fovea_wsi.picture FILE.png", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="fovea-wsi-") as folder:
        slide = Path(folder) / "slide.tif"
        Synthetic(SIDE, seed=3).write(slide)
        draw(slide, Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
