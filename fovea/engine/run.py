"""A whole run: assemble the model, then train one stage after the other in the run_dir."""

import json
import math
import platform
from pathlib import Path
from typing import Any

import torch

from fovea import __version__, geometry
from fovea.config import ConfigError, read_yaml, to_tree, to_yaml
from fovea.engine.checkpoint import save_text
from fovea.engine.stopping import StopRequest, graceful
from fovea.engine.trainer import Trainer
from fovea.interfaces import DataSet
from fovea.model import assemble
from fovea.parts import part
from fovea.recipe import Recipe, StageConfig
from fovea.stages.policy import Policy
from fovea.stages.pretrain import Pretrain
from fovea.stages.probe import Probe
from fovea.stages.stage import Stage
from fovea.trained import FILE, Trained, load_trained

_MAY_CHANGE = {
    "run_dir", "workers", "log_every", "checkpoint_every", "keep", "max_bad_images", "evaluate",
}  # fmt: skip
"""Settings without effect on the result; a run may be resumed with others."""


def train(recipe: Recipe) -> None:
    """Train all stages of a recipe, going on where an earlier call was stopped.

    Raises:
        ConfigError: the run_dir holds a run with other settings, or parts do not fit together.
        Interrupted, TrainingError: see ``fovea.engine.trainer``.
    """
    run_dir = Path(recipe.run_dir)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    _claim(run_dir, recipe)
    with graceful() as stop:
        _train_stages(recipe, run_dir, stop)


def _train_stages(recipe: Recipe, run_dir: Path, stop: StopRequest) -> None:
    device = pick_device(recipe.device)
    data = load_data(recipe, "train")
    trained = _start(recipe)
    print(f"extractor: {trained.model.extractor.describe(device)}", flush=True)
    for name in recipe.stages():
        folder = run_dir / name
        if (folder / FILE).is_file():
            print(f"{name}: finished before; its result is {folder / FILE}", flush=True)
            trained = load_trained(run_dir, name)
            continue
        torch.manual_seed(recipe.seed)  # of fresh weights
        config: StageConfig = getattr(recipe, name)
        stage = _stage(name, config, trained, data).to(device)
        trained.to(device)  # read from a file, it is still on the CPU
        seen = _decoded_for(stage, name, recipe, data)
        Trainer(stage, config, recipe, trained.model.extractor, seen, folder).run(stop)
        trained = stage.result()
        trained.save(folder / FILE)


def load_data(recipe: Recipe, split: str, finest_zoom: float = math.inf) -> DataSet:
    """Open a split of the run's data set, for a reader that comes no closer than a zoom."""
    data: DataSet = part("data_set", recipe.data, split=split, channels=recipe.model.channels)
    side = geometry.needed_side(finest_zoom, recipe.model.patch_size)
    return data if side is None else data.reduced(side)


def _decoded_for(stage: Stage, name: str, recipe: Recipe, data: DataSet) -> DataSet:
    """Have images decoded no larger than a stage sees them, and say so."""
    side = geometry.needed_side(stage.finest_zoom, recipe.model.patch_size)
    seen = data if side is None else data.reduced(side)
    if seen is not data:
        print(
            f"{name}: images are decoded no larger than it sees them, with a shorter side of "
            f"{side:,} pixels or more (data.decode=full turns this off)",
            flush=True,
        )
    return seen


def pick_device(device: str) -> torch.device:
    """Resolve ``auto``.

    Raises:
        ConfigError: cuda is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(["device: cuda is not available here; use device=auto or device=cpu"])
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if device == "auto" else device)


def _start(recipe: Recipe) -> Trained:
    """Load what the run starts from, or make fresh weights."""
    torch.manual_seed(recipe.seed)
    fresh = assemble(recipe.model)
    if recipe.init is None or recipe.init == "random":
        return Trained(fresh)
    before = load_trained(Path(recipe.init))
    theirs, ours = to_tree(before.model.config), to_tree(recipe.model)
    differing = [key for key in ("patch_size", "channels", "backbone") if theirs[key] != ours[key]]
    if differing:
        raise ConfigError(
            [f"model.{key}: differs from that of init={recipe.init}" for key in differing]
        )
    fresh.backbone.load_state_dict(before.model.backbone.state_dict())
    return Trained(fresh, before.heads, before.head, before.classes)


def _stage(name: str, config: StageConfig, trained: Trained, data: DataSet) -> Stage:
    if name == "pretrain":
        return Pretrain(config, trained)  # type: ignore[arg-type]  # the recipe ties name and type
    if not data.classes:
        raise ConfigError([f"data: {name} needs labels, and this data set has none"])
    if name == "probe":
        return Probe(config, trained, data.classes)  # type: ignore[arg-type]  # as above
    return Policy(config, trained)  # type: ignore[arg-type]  # as above


def _claim(run_dir: Path, recipe: Recipe) -> None:
    """Save the resolved config with the run; refuse a folder with a run of other settings."""
    file = run_dir / "config.yaml"
    if file.is_file():
        before, now = read_yaml(file), to_tree(recipe)
        changed = [key for key in _differences(before, now) if key.split(".")[0] not in _MAY_CHANGE]
        if changed:
            raise ConfigError(
                [f"{key}: differs from {file}; use another run_dir" for key in changed]
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    save_text(to_yaml(recipe), file)
    environment = {
        "fovea": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "threads": torch.get_num_threads(),
    }
    save_text(json.dumps(environment, indent=2) + "\n", run_dir / "environment.json")


def _differences(one: Any, other: Any, where: str = "") -> list[str]:
    """List the keys at which two plain trees differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [where]
    keys = dict.fromkeys((*one, *other))
    return [
        found
        for key in keys
        for found in _differences(one.get(key), other.get(key), f"{where}.{key}".lstrip("."))
    ]
