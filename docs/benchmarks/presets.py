"""Write presets.md: what Sinkhorn's targets can tell, and what small runs learn with ``auto``.

``python docs/benchmarks/presets.py FOLDER`` keeps its runs in FOLDER and goes on where it stopped.
"""

import json
import math
import os
import platform
import sys
from datetime import date
from pathlib import Path

import torch

from fovea.engine.run import load_data, train
from fovea.evaluate.knn import features, knn_accuracy
from fovea.objective.losses import entropy, sinkhorn
from fovea.presets import resolve
from fovea.recipe import Recipe, read_recipe
from fovea.trained import load_trained

BATCHES, PROTOTYPES = (16, 64, 256, 1024), (64, 128, 256, 1024, 4096, 16384, 65536)
SPREADS = {"fresh": 0.0625, "sharp": 0.2}  # standard deviation of the logits
LARGEST = 2**26  # logits
STEPS, SEED = 400, 0
BASE = [
    "probe=null", "policy=null", f"pretrain.steps={STEPS}", "threads=1", "checkpoint_every=1000",
    "pretrain.objective.glimpses=4", "pretrain.objective.locals=2",
]  # fmt: skip
HEAD, LR = "pretrain.objective.head.prototypes", "pretrain.optimizer.lr"
MOMENTUM, TEMPERATURE = "pretrain.objective.momentum", "pretrain.objective.teacher_temperature"
AUTO = [f"{key}=auto" for key in (HEAD, LR, MOMENTUM, TEMPERATURE)]
PAPERS = [
    f"{MOMENTUM}={{start: 0.996, end: 1.0}}",
    f"{TEMPERATURE}={{start: 0.04, end: 0.07, shape: linear, until: 0.1}}",
]
CASES = {
    "the quick start's, set by hand": [],
    "all `auto`": AUTO,
    "all `auto` but lr": AUTO[:1] + AUTO[2:],
    "by hand, but 64 prototypes": [f"{HEAD}=64"],
    "by hand, but 1024 prototypes": [f"{HEAD}=1024"],
    "by hand, but the paper's momentum and teacher temperature": PAPERS,
}
TOP = """\
# The numbers behind `auto`

Written by `python docs/benchmarks/presets.py FOLDER`: {date}, {machine}, {cores} cores, one
thread. What the rules are is told in [Training](../training.md).

## What Sinkhorn's targets can tell

Targets of random logits, at a temperature of 0.04 and with 3 rounds, as in training. A batch of B
images gives the teacher 2 B outputs. The table shows by how many nats the entropy of a target lies
below ln(prototypes): so much it tells of its image. Since all prototypes get the same share of a
batch, no target can tell much more than ln(2 B).

"""
NOTE = """
With as many prototypes as outputs, nine tenths or so of what can be told is told. Further ones
raise the entropy of the targets, and the loss with it, and tell little more: at a batch of 16,
targets of 65,536 prototypes tell as much as those of 64, and look almost uniform. Whether more
help over a long training one batch does not show; the paper has 32 for each output, and `auto`
goes no further. The bound by the data set is not seen here.
"""
RUNS = """
## Small runs

The quick start's pretraining with {steps} steps of 64 of its 4,000 images, 4 glimpses and 2 local
views, to save time; kNN accuracy in percent on the val split (500 images: one standard error is
about 2 points), one seed. The last columns are in nats, at the last step: by how much the entropy
of the targets, and the loss, lie below ln(prototypes). Such runs show what does harm. They cannot
tell two good settings apart, nor say anything of larger networks and data sets.

| settings | prototypes | lr | momentum | ViT mode | glimpses | targets tell | loss below |
|---|---|---|---|---|---|---|---|
"""


def main(folder: Path) -> None:
    """Make all runs and write the page beside this script."""
    torch.set_num_threads(1)
    machine = platform.processor() or platform.machine()
    text = TOP.format(date=date.today(), machine=machine, cores=os.cpu_count()) + _told() + NOTE
    text += RUNS.format(steps=STEPS)
    for number, (name, overrides) in enumerate(CASES.items()):
        text += _row(name, _recipe(folder / str(number), overrides))
    Path(__file__).with_name("presets.md").write_text(text, encoding="utf-8")


def _told() -> str:
    """Tabulate ln(prototypes) - entropy of targets."""
    counts = " | ".join(f"{K:,}" for K in PROTOTYPES)
    text = f"| logits | B | at most | {counts} |\n|---|---|---|{'---|' * len(PROTOTYPES)}\n"
    for name, spread in SPREADS.items():
        for B in BATCHES:
            cells = [_cell(2 * B, K, spread) for K in PROTOTYPES]
            text += f"| {name} | {B} | {math.log(2 * B):.2f} | {' | '.join(cells)} |\n"
    return text + (
        "\n'Fresh' logits have a standard deviation of 0.0625, as of random points on the sphere "
        "of a\nbottleneck of 256; 'sharp' ones, of 0.2, stand for a long training. A dash was too "
        "large to\ntry.\n"
    )


def _cell(rows: int, prototypes: int, spread: float) -> str:
    if rows * prototypes > LARGEST:
        return "-"
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(rows, prototypes, generator=generator)
    return f"{math.log(prototypes) - float(entropy(sinkhorn(logits, 0.04, 3)).mean()):.2f}"


def _recipe(run_dir: Path, overrides: list[str]) -> Recipe:
    recipe = read_recipe("quickstart", [*BASE, f"run_dir={run_dir}", *overrides])
    return resolve(recipe, len(load_data(recipe, "train"))).recipe


def _row(name: str, recipe: Recipe) -> str:
    """Train and measure a case."""
    assert recipe.pretrain is not None
    chosen = recipe.pretrain.objective.settings.model_dump()
    settings = [
        str(chosen["head"]["prototypes"]),
        f"{recipe.pretrain.optimizer.lr.start:g}",
        f"{chosen['momentum']['start']:.3g}",
    ]
    return f"| {name} | {' | '.join([*settings, *_measured(recipe)])} |\n"


def _measured(recipe: Recipe) -> list[str]:
    """Train, unless that was done before: kNN in ViT mode and after glimpses, and two entropies."""
    train(recipe)
    trained = load_trained(Path(recipe.run_dir))
    bank, queries = (load_data(recipe, split) for split in ("train", "val"))
    seen, whole, labels = features(trained, bank, 4, 250)
    val_seen, val_whole, truth = features(trained, queries, 4, 250)
    vit = knn_accuracy(whole, labels, val_whole, truth, 20)
    glimpses = knn_accuracy(seen, labels, val_seen, truth, 20)
    lines = (Path(recipe.run_dir) / "pretrain" / "metrics.jsonl").read_text().splitlines()
    last = [line for line in map(json.loads, lines) if "loss" in line][-1]
    below = [last["log_prototypes"] - last[key] for key in ("teacher_entropy", "cross_entropy")]
    result = [f"{100 * vit:.1f}", f"{100 * glimpses:.1f}", *(f"{one:.2f}" for one in below)]
    print(recipe.run_dir, *result, flush=True)
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]))
