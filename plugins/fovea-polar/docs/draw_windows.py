"""Draw windows.png: the windows of ``foveal`` and ``polar`` about a gaze on a garment."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import fovea
from fovea import geometry
from fovea.interfaces import ContextBuilder, DataSet
from fovea.viz.glimpses import show

CONTEXTS: dict[str, dict[str, object]] = {
    "foveal": {"zooms": (0, 0.67, 1.33, 2), "grid": 3, "grid_zoom_eval": 2.75},
    "polar": {"rings": 2, "growth": 3.0, "zoom": (2.5, 3.0), "zoom_eval": 2.75},
    "polar, defaults": {},
}
GAZE, SIDE, IMAGE = (0.45, 0.4), 448, 3


def main() -> None:
    """Draw the picture beside this script."""
    data: DataSet = fovea.create("data_set", "fashion", size=(SIDE, SIDE), split="val", channels=1)
    image = data.sample(IMAGE, 0).image
    assert isinstance(image, np.ndarray)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (title, settings) in zip(figure.subplots(1, 3), CONTEXTS.items(), strict=True):
        context: ContextBuilder = fovea.create("context_builder", title.split(",")[0], **settings)
        sizes = torch.tensor([[SIDE, SIDE]])
        windows = context.windows(torch.tensor([GAZE]), sizes, None)
        show(axes, image / 255)
        for left, top, right, bottom in geometry.window_edges(windows, sizes)[0].tolist():
            frame = Rectangle((left, top), right - left, bottom - top, fill=False)
            frame.set(edgecolor="#d62728", linewidth=1)
            axes.add_patch(frame)
        axes.set_title(f"{title}: {context.num_windows} windows", fontsize=9)
        axes.set_xlim(-0.55 * SIDE, 1.4 * SIDE)
        axes.set_ylim(1.4 * SIDE, -0.55 * SIDE)
        axes.set_facecolor("0.85")
    figure.savefig(Path(__file__).with_name("windows.png"), dpi=120)


if __name__ == "__main__":
    main()
