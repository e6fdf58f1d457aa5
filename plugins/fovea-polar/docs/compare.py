"""Compare ``polar`` with ``foveal``: python plugins/fovea-polar/docs/compare.py FOLDER.

Each case is pretrained as in the quick start, but shorter, and measured by kNN on the val split.
Runs are kept in FOLDER, and a second call goes on where the first stopped. It prints a table.
"""

import sys
from pathlib import Path

import torch

from fovea.engine.run import load_data, train
from fovea.evaluate.knn import features, knn_accuracy
from fovea.recipe import Recipe, read_recipe
from fovea.trained import load_trained

SEEDS, STEPS, GLIMPSES = (0, 1, 2, 3), 300, 4
SHORT = [
    "probe=null", "policy=null", "threads=1", f"pretrain.steps={STEPS}",
    f"pretrain.objective.glimpses={GLIMPSES}", "pretrain.objective.locals=2",
]  # fmt: skip
CASES = {
    "foveal": "{name: foveal, zooms: [0, 0.67, 1.33, 2], grid: 3, grid_zoom: [2.5, 3.0], "
    "grid_zoom_eval: 2.75}",
    "polar": "{name: polar, rings: 2, growth: 3.0, zoom: [2.5, 3.0], zoom_eval: 2.75}",
}


def main(folder: Path) -> None:
    """Train what is missing and print the table."""
    torch.set_num_threads(1)
    print("| context | seed | windows | kNN, 4 glimpses | kNN, ViT mode |\n|---|---|---|---|---|")
    for name in CASES:
        for seed in SEEDS:
            recipe = case(folder, name, seed)
            train(recipe)
            print(f"| `{name}` | {seed} | {_row(recipe)} |", flush=True)


def case(folder: Path, name: str, seed: int) -> Recipe:
    """Describe the run of one context and seed."""
    run_dir = folder / f"{name}-{seed}"
    given = [f"run_dir={run_dir}", f"seed={seed}", f"model.context={CASES[name]}", *SHORT]
    return read_recipe("quickstart", given)


def _row(recipe: Recipe) -> str:
    """Measure the windows of a glimpse and the accuracy of both modes, in percent."""
    trained = load_trained(recipe.run_dir)
    bank, queries = (load_data(recipe, split) for split in ("train", "val"))
    seen, whole, labels = features(trained, bank, GLIMPSES, 250)
    asked, asked_whole, truth = features(trained, queries, GLIMPSES, 250)
    glimpses = knn_accuracy(seen, labels, asked, truth, 20)
    vit = knn_accuracy(whole, labels, asked_whole, truth, 20)
    count = trained.model.context.num_windows
    return f"{count} | {100 * glimpses:.1f} | {100 * vit:.1f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
