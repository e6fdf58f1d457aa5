"""Training from a config, and going on from a checkpoint, exactly."""

import json
import math
import shutil
from pathlib import Path

import torch

from fovea.engine.run import train
from fovea.recipe import Recipe, read_recipe
from fovea.trained import load_trained

OVERRIDES = [
    "pretrain.steps=4", "pretrain.batch_size=4", "checkpoint_every=2", "keep=5", "threads=1",
    "probe=null", "policy=null", "pretrain.objective.glimpses=2",
]  # fmt: skip
CONFIG = Path(__file__).parents[1] / "configs" / "fashion.yaml"


def recipe(run_dir: Path, *more: str) -> Recipe:
    return read_recipe(str(CONFIG), [*OVERRIDES, f"run_dir={run_dir}", *more])


def test_it_trains_from_yaml_and_a_resumed_run_ends_with_the_same_bits(tmp_path):
    train(recipe(tmp_path / "whole"))
    again = tmp_path / "again" / "pretrain"
    again.mkdir(parents=True)
    shutil.copy(tmp_path / "whole" / "pretrain" / "checkpoint-00000002.pt", again)
    train(recipe(tmp_path / "again"))
    one, two = (load_trained(tmp_path / name).weights() for name in ("whole", "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    metrics = tmp_path / "whole" / "pretrain" / "metrics.jsonl"
    first = json.loads(metrics.read_text().splitlines()[0])
    assert math.isfinite(first["loss"])
    assert first["error_of_mean"] > 0
