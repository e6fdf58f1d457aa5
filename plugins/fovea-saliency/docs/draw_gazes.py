"""Draw gazes.png: scenes of the embedded set, what stands out in them, and the first gazes."""

from pathlib import Path

import numpy as np
import torch
from fovea_saliency.config import SaliencyConfig
from fovea_saliency.conspicuity import saliency
from fovea_saliency.saliency import survey
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import fovea
from fovea.evaluate.gazes import Choose, greedy
from fovea.interfaces import DataSet, GazePolicy, PatchExtractor
from fovea.viz.glimpses import show

SCENES = {"one garment": 0, "with three pieces of others": 3}  # pieces
GLIMPSES, SIDE, IMAGES = 4, 112, (3, 8)


def main() -> None:
    """Draw the picture beside this script."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    rows = figure.subplots(2, 2 * len(SCENES))
    for row, index in zip(rows, IMAGES, strict=True):
        for place, (title, pieces) in enumerate(SCENES.items()):
            row[2 * place].set_title(title, fontsize=8)
            row[2 * place + 1].set_title("what stands out", fontsize=8)
            _draw(row[2 * place], row[2 * place + 1], index, pieces)
    figure.savefig(Path(__file__).with_name("gazes.png"), dpi=120)


def _draw(left: Axes, right: Axes, index: int, pieces: int) -> None:
    settings = {"size": (SIDE, SIDE), "garment": (0.3, 0.5), "fragments": pieces}
    data: DataSet = fovea.create("data_set", "fashion", split="val", channels=1, **settings)
    extractor: PatchExtractor = fovea.create("patch_extractor", "integral", patch_size=8)
    policy: GazePolicy = fovea.create("gaze_policy", "saliency", width=8, num_state_tokens=1)
    image, config = data.sample(index, 0).image, SaliencyConfig()
    assert isinstance(image, np.ndarray)
    scene = extractor.prepare([image])
    picture, inside, _ = survey(scene, config.grid)
    show(left, image / 255)
    found = saliency(picture, inside, config.scales, config.surround)
    show(right, found[0, :, :, None].numpy())
    _number(left, greedy(policy)(scene, None, torch.Generator()))


def _number(axes: Axes, choose: Choose) -> None:
    """Number the gazes where they fall; a place may be looked at twice."""
    visits: dict[tuple[float, float], list[str]] = {}
    for number in range(1, GLIMPSES + 1):
        x, y = choose(torch.zeros(1, 1, 8))[0].tolist()
        visits.setdefault((x, y), []).append(str(number))
    dot = {"boxstyle": "round,pad=0.2", "facecolor": "#d62728", "edgecolor": "none"}
    for (x, y), numbers in visits.items():
        place, label = (x * SIDE - 0.5, y * SIDE - 0.5), ", ".join(numbers)
        axes.text(*place, label, color="white", fontsize=7, ha="center", va="center", bbox=dot)


if __name__ == "__main__":
    main()
