"""Write objectives.md: masked autoencoding and distillation beside ``dino_seq2global``.

``python docs/benchmarks/objectives.py FOLDER`` keeps its runs in FOLDER and goes on where it
stopped. It needs both add-ons: ``pip install plugins/fovea-mae plugins/fovea-distill``.
"""

import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from datetime import date
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fovea.data.loader import Order, all_batches, train_batches
from fovea.engine.checkpoint import save_text
from fovea.engine.run import build_trainer, load_data, train
from fovea.evaluate.knn import knn_accuracy
from fovea.evaluate.ridge import ridge_accuracy
from fovea.model import FovealModel, assemble
from fovea.recipe import Recipe, read_recipe
from fovea.stages.probe import random_states
from fovea.trained import load_trained

STEPS, SEEDS, GLIMPSES, NEIGHBOURS, AT_ONCE = 600, (0, 1), 8, 20, 2
BATCH, WHOLE = 64, 1800  # images of a step, and steps, of the quick start
TIMED = 5  # steps whose seconds are taken, of which the median
DINO, DISTILL, UNTRAINED = "dino_seq2global", "distill, random teacher", "untrained"
OBJECTIVE, LR = "pretrain.objective", "pretrain.optimizer.lr.start"
GRID = "{grid: 6, scale: [0.32, 1.0]}"
SMALL = "{width: 64, depth: 1, heads: 2}"
MAE_BASE = f"{OBJECTIVE}={{name: mae, global_crop: {GRID}, decoder: {SMALL}"
TRIES = {
    "mae, half hidden, lr 0.002": [f"{MAE_BASE}, hidden: 0.5}}"],
    "mae, three quarters hidden, lr 0.002": [f"{MAE_BASE}, hidden: 0.75}}"],
    "mae, half hidden, lr 0.0007": [f"{MAE_BASE}, hidden: 0.5}}", f"{LR}=0.0007"],
}
TEACHER = (
    f"{OBJECTIVE}={{name: distill, teacher: test_vit, weights: random, view: {GRID}, "
    "queries: 9, head: {width: 64, heads: 2}}"
)
OTHERS: dict[str, list[str]] = {DINO: [], DISTILL: [TEACHER], UNTRAINED: []}
MEASURES = (
    "vit_knn", "vit_probe", "vit_probe_all", "glimpses_knn", "glimpses_probe", "glimpses_probe_all",
)  # fmt: skip
HEADINGS = "ViT: kNN | probe | probe, all tokens | glimpses: kNN | probe | probe, all tokens"
Numbers = dict[str, float]
Found = Mapping[tuple[str, int], Numbers]  # by name and seed


class Products(TorchDispatchMode):
    """Counts operations by torch's table; torch's own counter fails where there is no gradient."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        return out


def main(folder: Path) -> None:
    """Make all runs and write the page beside this script."""
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:

        def begin(split: str, name: str, seed: int) -> Future[Numbers]:
            return pool.submit(_result, folder, split, name, seed)

        begun = {name: begin("val", name, 0) for name in TRIES}
        others = {(name, seed): begin("test", name, seed) for name in OTHERS for seed in SEEDS}
        tried = {name: one.result() for name, one in begun.items()}
        mae = max(tried, key=lambda name: fmean(tried[name][key] for key in MEASURES))
        chosen = {(mae, seed): begin("test", mae, seed) for seed in SEEDS}
        found = {row: one.result() for row, one in {**chosen, **others}.items()}
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    text = TOP.format(date=date.today(), machine=machine, batch=BATCH, steps=STEPS, whole=WHOLE)
    pairs = [(mae, DINO), (DISTILL, DINO), *((name, UNTRAINED) for name in (mae, DINO, DISTILL))]
    rows = [f"{name} | {seed} | {_percent(one)}" for (name, seed), one in found.items()]
    text += _costs(found) + LEARNED + _table(f"objective | seed | {HEADINGS}", rows)
    text += AHEAD + _differences(found, pairs) + TOLD + _errors(found)
    rows = [f"{name} | {one['steps']:.0f} | {_percent(one)}" for name, one in tried.items()]
    text += TRIED + _table(f"settings | steps | {HEADINGS}", rows) + NOTE
    Path(__file__).with_name("objectives.md").write_text(text, encoding="utf-8")


def _result(folder: Path, split: str, name: str, seed: int) -> Numbers:
    """Train a network and measure it on a split, unless that was done before."""
    torch.set_num_threads(1)
    run_dir = folder / f"{name.replace(',', '').replace(' ', '_')}-{seed}"
    return _once(run_dir / f"{split}.json", lambda: _measured(run_dir, split, name, seed))


def _once(file: Path, numbers: Callable[[], Numbers]) -> Numbers:
    """Read a file of numbers, or make it."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = numbers()
        save_text(json.dumps(made), file)
        print(file, {key: round(one, 3) for key, one in made.items()}, flush=True)
    found: Numbers = json.loads(file.read_text())
    return found


def _measured(run_dir: Path, split: str, name: str, seed: int) -> Numbers:
    """Train a network, if it is to be, and measure it on a split."""
    recipe = _recipe(run_dir, name, seed, STEPS)
    if name == UNTRAINED:
        torch.manual_seed(seed)
        return _accuracies(recipe, assemble(recipe.model), split)
    trained = _once(run_dir / "training.json", lambda: _trained(run_dir, name, seed))
    return {**trained, **_accuracies(recipe, load_trained(run_dir).model, split)}


def _trained(run_dir: Path, name: str, seed: int) -> Numbers:
    """Train for as many operations as the quick start's objective takes for its steps."""
    cost = _once(run_dir / "cost.json", lambda: _cost(_recipe(run_dir, name, seed, STEPS)))
    dino = _once(run_dir.parent / "dino.json", lambda: _cost(_recipe(run_dir, DINO, 0, STEPS)))
    steps = round(STEPS * dino["step_flops"] / cost["step_flops"])
    train(_recipe(run_dir, name, seed, steps))
    lines = (run_dir / "pretrain" / "metrics.jsonl").read_text().splitlines()
    logged = [line for line in map(json.loads, lines) if "loss" in line][-10:]
    errors = {
        key: fmean(line[key] for line in logged) for key in logged[-1] if key.startswith("error_")
    }
    return {**cost, "steps": float(steps), **errors}


def _recipe(run_dir: Path, name: str, seed: int, steps: int) -> Recipe:
    base = [
        "probe=null", "policy=null", "threads=1", "checkpoint_every=100", "keep=1",
        f"seed={seed}", f"run_dir={run_dir}", f"pretrain.steps={steps}",
    ]  # fmt: skip
    return read_recipe("quickstart", [*base, *{**TRIES, **OTHERS}[name]])


def _cost(recipe: Recipe) -> Numbers:
    """Measure a step, forward and backward: its operations, and its seconds of CPU."""
    trainer = build_trainer(recipe, "pretrain")
    trainer.stage.train()
    batch = next(train_batches(trainer.data, Order(len(trainer.data), BATCH, 0, 0, 1), 0))
    with Products() as products, sdpa_kernel(SDPBackend.MATH):
        trainer.forward_backward(0, batch, 0)
    seconds = []
    for _ in range(TIMED):
        start = time.process_time()
        trainer.forward_backward(0, batch, 0)
        seconds.append(time.process_time() - start)
    return {"step_flops": float(products.flops), "step_seconds": median(seconds)}


def _accuracies(recipe: Recipe, model: FovealModel, split: str) -> Numbers:
    """Classify a split by the train split's features: token 0, and all state tokens."""
    (seen, whole, labels), (split_seen, split_whole, truth) = (
        _states(recipe, model, name) for name in ("train", split)
    )
    numbers = {}
    for way, bank, queries in (("vit", whole, split_whole), ("glimpses", seen, split_seen)):
        one, other = bank[:, 0], queries[:, 0]
        numbers[f"{way}_knn"] = knn_accuracy(one, labels, other, truth, NEIGHBOURS)
        numbers[f"{way}_probe"] = ridge_accuracy(one, labels, other, truth)
        everything = bank.flatten(1), queries.flatten(1)
        numbers[f"{way}_probe_all"] = ridge_accuracy(everything[0], labels, everything[1], truth)
    return numbers


@torch.no_grad()
def _states(recipe: Recipe, model: FovealModel, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Embed a split: states after S random glimpses and in ViT mode [n, K, D]; labels [n]."""
    generator = torch.Generator().manual_seed(0)
    seen, whole, labels = [], [], []
    for batch in all_batches(load_data(recipe, split), 250):
        scene = model.prepare(batch.images)
        seen.append(random_states(model, scene, GLIMPSES, generator)[-1])
        whole.append(model.vit_state(scene))
        labels.append(batch.labels)
    return torch.cat(seen), torch.cat(whole), torch.cat(labels)


def _costs(found: Found) -> str:
    """Tabulate what training took; the seeds differ in seconds only, which are their mean."""
    rows = []
    for name in dict.fromkeys(name for name, _ in found if name != UNTRAINED):
        flops, steps = found[name, SEEDS[0]]["step_flops"], found[name, SEEDS[0]]["steps"]
        seconds = _mean(found, name, "step_seconds")
        row = f"{name} | {steps:.0f} | {steps * BATCH:,.0f} | {flops / 1e9:.1f} | {seconds:.2f}"
        rows.append(f"{row} | {flops * steps / 1e12:.2f} | {seconds * steps:.0f}")
    return _table("objective | steps | images | GFLOP a step | CPU s a step | TFLOP | CPU s", rows)


def _differences(found: Found, pairs: list[tuple[str, str]]) -> str:
    """Tabulate by how many points the one is above the other, mean over seeds."""
    rows = []
    for one, other in pairs:
        points = [100 * (_mean(found, one, key) - _mean(found, other, key)) for key in MEASURES]
        rows.append(f"{one} - {other} | {' | '.join(f'{value:+.1f}' for value in points)}")
    return _table(f" | {HEADINGS}", rows)


def _mean(found: Found, name: str, key: str) -> float:
    return fmean(found[name, seed][key] for seed in SEEDS)


def _errors(found: Found) -> str:
    """Tabulate how well the objectives' own tasks were done, where they have an error."""
    rows = []
    for (name, seed), one in found.items():
        errors = [f"{value:.3f}" for key, value in one.items() if key.startswith("error_")]
        rows += [f"{name} | {seed} | {' | '.join(errors)}"] if errors else []
    return _table("objective | seed | at once | first glimpse | last glimpse | the mean", rows)


def _table(head: str, rows: list[str]) -> str:
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|", *(f"| {row} |" for row in rows)]
    return "\n".join([*lines, ""])


def _percent(one: Numbers) -> str:
    return " | ".join(f"{100 * one[key]:.1f}" for key in MEASURES)


TOP = """\
# Objectives side by side

Written by `python docs/benchmarks/objectives.py FOLDER`: {date}, {machine}.

The quick start's model, its 4,000 images, its batch of {batch}, its optimiser and schedules, with
another objective: `mae` of the add-on `plugins/fovea-mae`, and, as a control, `distill` of
`plugins/fovea-distill` with a tiny teacher of random weights. Each run has as many floating-point
operations as {steps} steps of `dino_seq2global`; the quick start makes {whole:,}. An objective
whose step is cheaper passes over the images more often.

## What it cost

Operations are those of matrix products, forward and backward, teachers included, a multiply-add as
two. CPU seconds are those of one thread, forward and backward, with the reading of windows: the
median of 5 steps, on a machine that was busy with other things. Compare them roughly; they are not
equal where operations are.

"""
LEARNED = """
## What was learned

Accuracies in percent on the test split (1,500 images: one standard error is about 1.2 points), by
the features of the 4,000 training images: of state token 0 by their 20 nearest neighbours and by a
linear probe in closed form, and of all 4 state tokens by the same probe; in ViT mode, and after 8
random glimpses.

"""
AHEAD = "\n## Who is ahead, in points, mean over both seeds\n\n"
TOLD = """
## How well the hidden was told

Mean squared errors at the end of training, over its last 10 logged steps: after the look at a whole
crop at once, after the first and the last of the glimpses, and of telling the mean and no more. For
`mae` they are those of normalised pixels of hidden windows (some are flat: their mean is all there
is to tell), for `distill` those of the teacher's standardised features.

"""
TRIED = """
## What was tried for `mae`

On the val split (500 images: one standard error is about 2 points), seed 0. The tables above have
the one whose six accuracies have the highest mean; nothing was chosen on the test split.

"""
NOTE = """
## What this cannot tell

Such short runs of a small network say nothing of long trainings, larger networks and photographs,
and two seeds say little of how runs differ. `dino_seq2global` has the settings of
[the quick start](quickstart.md), chosen for it with care and for its longer run; `mae` has had the
few tries above. A teacher of random weights shows what the way of training gives by itself; none
that knows something was tried.
"""

if __name__ == "__main__":
    main(Path(sys.argv[1]))
