"""A whole run: assemble the model, then train one stage after the other in the run_dir."""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fovea import collective, geometry, paths
from fovea.config import ConfigError, read_yaml, to_tree, to_yaml
from fovea.engine.auto import check_images, record
from fovea.engine.checkpoint import misfit, save_text
from fovea.engine.distributed import from_first, in_first, local_rank, process_group, say
from fovea.engine.environment import record_start
from fovea.engine.lock import alone_in
from fovea.engine.online import MEASURED, Online
from fovea.engine.stopping import StopRequest, graceful
from fovea.engine.trainer import Trainer
from fovea.interfaces import DataSet
from fovea.model import assemble
from fovea.parts import part
from fovea.presets import resolve
from fovea.recipe import PretrainConfig, Recipe, StageConfig
from fovea.stages.policy import Policy
from fovea.stages.pretrain import Pretrain
from fovea.stages.probe import Probe
from fovea.stages.stage import Stage
from fovea.trained import FILE, Trained, anywhere, load_trained

_MAY_CHANGE = {
    "run_dir", "workers", "log_every", "checkpoint_every", "keep", "max_bad_images", "loggers",
    "online", "evaluate", "data_timeout", "on_save_error",
}  # fmt: skip
"""Settings without effect on the result; a run may be resumed with others."""


def train(recipe: Recipe) -> None:
    """Train all stages of a recipe, going on where an earlier call was stopped.

    Raises:
        ConfigError: the run_dir holds a run with other settings, or parts do not fit together.
        Interrupted, TrainingError: see ``fovea.engine.trainer``.
    """
    if paths.is_remote(recipe.run_dir):
        raise ConfigError([f"run_dir: {recipe.run_dir} is no local folder; mount it, or export"])
    run_dir = Path(recipe.run_dir)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    device = pick_device(recipe.device)
    with process_group(device), _alone(run_dir), graceful() as stop:
        data = load_data(recipe, "train")
        resolution = resolve(recipe, len(data))
        with in_first() as is_first:
            if is_first:
                check_images(resolution, run_dir)
                _claim(run_dir, resolution.recipe)
                record(resolution, run_dir)
                record_start(run_dir, device, collective.world())
        _train_stages(resolution.recipe, data, run_dir, device, stop)


def _alone(run_dir: Path) -> AbstractContextManager[None]:
    return alone_in(run_dir) if collective.rank() == 0 else nullcontext()


def _train_stages(
    recipe: Recipe, data: DataSet, run_dir: Path, device: torch.device, stop: StopRequest
) -> None:
    trained = _start(recipe)
    say(f"extractor: {trained.model.extractor.describe(device)}")
    say(f"backbone: {trained.model.backbone.describe(device)}")
    if collective.world() > 1:
        say(f"processes: {collective.world()}, {recipe.parallel}")
    for name in recipe.stages():
        folder = run_dir / name
        if from_first((folder / FILE).is_file()):
            say(f"{name}: finished before; its result is {folder / FILE}")
            trained = load_trained(run_dir, name)
            continue
        stage = _begin(recipe, name, trained, data, device)
        spare = copy.deepcopy(stage) if recipe.parallel == "fsdp" else stage
        seen = _decoded_for(stage, name, recipe, data)
        config: StageConfig = getattr(recipe, name)
        trainer = Trainer(stage, config, recipe, trained.model.extractor, seen, folder)
        current = partial(_current, trainer, spare)
        trainer.run(stop, _online(recipe, trainer, current, trained.model.finest_zoom))
        trained = current()
        if collective.rank() == 0:
            trained.save(folder / FILE)


def build_trainer(recipe: Recipe, name: str) -> Trainer:
    """Make the trainer of a stage of a run as it was at the beginning of that stage."""
    data = load_data(recipe, "train")
    before = recipe.stages()[: recipe.stages().index(name)]
    trained = load_trained(recipe.run_dir, before[-1]) if before else _start(recipe)
    stage = _begin(recipe, name, trained, data, pick_device(recipe.device))
    extractor, folder = trained.model.extractor, Path(recipe.run_dir, name)
    return Trainer(stage, getattr(recipe, name), recipe, extractor, data, folder)


def load_data(recipe: Recipe, split: str, finest_zoom: float = math.inf) -> DataSet:
    """Open a split of the run's data set, for a reader that comes no closer than a zoom."""
    data: DataSet = part("data_set", recipe.data, split=split, channels=recipe.model.channels)
    side = geometry.needed_side(finest_zoom, recipe.model.patch_size)
    return data if side is None else data.reduced(side)


def _current(trainer: Trainer, spare: Stage) -> Trained:
    """Return what a stage has learned so far; where weights are shared out, every process calls."""
    if spare is not trainer.stage:
        spare.load_state_dict(trainer.whole_state())
    return spare.result()


def _online(
    recipe: Recipe, trainer: Trainer, current: Callable[[], Trained], zoom: float
) -> Online | None:
    """Prepare what is measured beside a stage, by a model that comes no closer than a zoom."""
    if recipe.online is None or trainer.name not in MEASURED:
        return None
    data = load_data(recipe, "train", zoom), _labelled_val(recipe, zoom)
    per_epoch = len(trainer.data) // trainer.config.batch_size
    stage, folder = trainer.stage, trainer.folder
    return Online(recipe.online, folder, stage, current, *data, per_epoch, recipe.workers)


def _labelled_val(recipe: Recipe, zoom: float) -> DataSet | None:
    """Open the val split; say so where there is none to classify."""
    try:
        val = load_data(recipe, "val", zoom)
    except ValueError as error:
        missing = str(error)
    else:
        if val.classes:
            return val
        missing = "the data set has no labels"
    say(f"online: nothing is classified beside training, only drawn: {missing}")
    return None


def _decoded_for(stage: Stage, name: str, recipe: Recipe, data: DataSet) -> DataSet:
    """Have images decoded no larger than a stage sees them, and say so."""
    side = geometry.needed_side(stage.finest_zoom, recipe.model.patch_size)
    seen = data if side is None else data.reduced(side)
    if seen is not data:
        say(
            f"{name}: images are decoded no larger than it sees them, with a shorter side of "
            f"{side:,} pixels or more (data.decode=full turns this off)"
        )
    return seen


def pick_device(device: str) -> torch.device:
    """Resolve ``auto``; each process has the GPU of its number on its machine.

    Raises:
        ConfigError: cuda is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(["device: cuda is not available here; use device=auto or device=cpu"])
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = automatic if device == "auto" else device
    return torch.device("cuda", local_rank()) if chosen == "cuda" else torch.device("cpu")


def _start(recipe: Recipe) -> Trained:
    """Load what the run starts from, or make fresh weights."""
    torch.manual_seed(recipe.seed)
    fresh = assemble(recipe.model)
    if recipe.init is None or recipe.init == "random":
        return Trained(fresh)
    before = load_trained(recipe.init)
    theirs, ours = (anywhere(to_tree(one)) for one in (before.model.config, recipe.model))
    differing = [key for key in ("patch_size", "channels", "backbone") if theirs[key] != ours[key]]
    if differing:
        raise ConfigError(
            [f"model.{key}: differs from that of init={recipe.init}" for key in differing]
        )
    fresh.backbone.load_state_dict(before.model.backbone.state_dict())
    return replace(before, model=fresh)


def _begin(
    recipe: Recipe, name: str, trained: Trained, data: DataSet, device: torch.device
) -> Stage:
    """Make a stage with the weights that it begins with."""
    torch.manual_seed(recipe.seed)
    stage = _stage(name, getattr(recipe, name), trained, data).to(device)
    trained.to(device)  # read from a file, it is still on the CPU
    return stage


def _stage(name: str, config: StageConfig, trained: Trained, data: DataSet) -> Stage:
    if name == "pretrain":
        return _pretrain(config, trained)  # type: ignore[arg-type]  # the recipe ties name and type
    if not data.classes:
        raise ConfigError([f"data: {name} needs labels, and this data set has none"])
    if name == "probe":
        return Probe(config, trained, data.classes)  # type: ignore[arg-type]  # as above
    return Policy(config, trained)  # type: ignore[arg-type]  # as above


def _pretrain(config: PretrainConfig, trained: Trained) -> Pretrain:
    """Make the first stage; a projection head that was exported goes on, too."""
    stage = Pretrain(config, trained)
    if trained.projection is not None:
        heads = ("objective.head.", "objective.teacher_head.")
        state = stage.state_dict()
        wanted = {name: one for name, one in state.items() if name.startswith(heads)}
        found = {f"{head}{name}": one for head in heads for name, one in trained.projection.items()}
        if wrong := misfit(found, wanted):
            raise ConfigError(
                [
                    f"pretrain.objective: the projection head of init differs: {wrong}; take its "
                    "settings, or export with --what model to begin with a fresh head"
                ]
            )
        stage.load_state_dict({**state, **found})
        say("pretrain: goes on with the projection head of init")
    return stage


def _claim(run_dir: Path, recipe: Recipe) -> None:
    """Save the resolved config with the run; refuse a folder with a run of other settings.

    One that ended before its first step, such as by a mistake in its settings, is no such run.
    """
    file = run_dir / "config.yaml"
    if file.is_file() and _has_begun(run_dir):
        before, now = read_yaml(file), to_tree(recipe)
        changed = [key for key in _differences(before, now) if key.split(".")[0] not in _MAY_CHANGE]
        if changed:
            raise ConfigError(
                [f"{key}: differs from {file}; use another run_dir" for key in changed]
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    save_text(to_yaml(recipe), file)


def _has_begun(run_dir: Path) -> bool:
    """Whether a stage has logged a step or saved anything."""
    patterns = ("*/metrics.jsonl", f"*/{FILE}", "*/checkpoint-*.pt")
    return any(file.stat().st_size for one in patterns for file in run_dir.glob(one))


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
