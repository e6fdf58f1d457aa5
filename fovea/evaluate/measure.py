"""Measures a trained run: all that the report holds, as one plain tree."""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from fovea.config import Component, ConfigError
from fovea.engine.run import load_data, pick_device, train
from fovea.evaluate import gazes
from fovea.evaluate.accuracy import step_accuracy, vit_accuracy
from fovea.evaluate.enlarge import enlarged_accuracy, finest_zoom
from fovea.evaluate.gazes import Gaze
from fovea.evaluate.knn import features, knn_accuracy
from fovea.interfaces import DataSet
from fovea.recipe import Recipe
from fovea.registry import config_class
from fovea.trained import FILE, Trained, load_trained

Results = dict[str, Any]
_RANDOM = "random"  # the policy that all others are compared with


def measure(recipe: Recipe) -> Results:
    """Measure what the recipe's run_dir holds.

    Raises:
        ConfigError: nothing to measure accuracy with: no probe was trained.
        ValueError: the run has no finished stage, or the data set no such split.
    """
    run_dir = Path(recipe.run_dir)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    trained = load_trained(run_dir)
    if trained.heads is None:
        raise ConfigError([f"{run_dir}: has no probe to measure accuracy with; train one first"])
    trained.to(pick_device(recipe.device))
    data = load_data(recipe, recipe.evaluate.split, trained.model.finest_zoom)
    results: Results = {
        "run_dir": recipe.run_dir,
        "seed": recipe.seed,
        "split": recipe.evaluate.split,
        "images": len(data),
        "pretraining": _pretraining(run_dir / "pretrain" / "metrics.jsonl"),
        "gazes": _gaze_accuracies(recipe, trained, data),
    }
    results["vit"] = vit_accuracy(trained, data, recipe.evaluate.batch_size)
    results["knn"] = _knn(recipe, trained, data)
    if recipe.evaluate.enlarge:
        results["enlarge"] = _enlarged(recipe, trained)
    if recipe.evaluate.random_init:
        results["random_init"] = _random_init(recipe)
    return results


def gaze_sources(recipe: Recipe, trained: Trained, boxes: bool) -> dict[str, Gaze]:
    """List the ways to gaze: the policy, if it is more than random or was trained; its controls."""
    sources = {
        "random": gazes.sampled(_at_random(recipe, trained).model.policy),
        "fixed centre": gazes.centre,
        "centre Gaussian": gazes.centre_gaussian,
    }
    if boxes:
        sources["oracle"] = gazes.oracle
    was_trained = (Path(recipe.run_dir) / "policy" / FILE).is_file()
    if was_trained or recipe.model.policy.name != _RANDOM:
        sources["policy"] = gazes.sampled(trained.model.policy)
        sources["policy, greedy"] = gazes.greedy(trained.model.policy)
    return sources


def _at_random(recipe: Recipe, trained: Trained) -> Trained:
    """Let the model look at random: with the run's own settings for that, if it has them."""
    policy = recipe.model.policy
    if policy.name != _RANDOM:
        policy = Component(name=_RANDOM, settings=config_class("gaze_policy", _RANDOM)())
    return trained.with_policy(policy).to(trained.model.device)


def _gaze_accuracies(recipe: Recipe, trained: Trained, data: DataSet) -> Results:
    config = recipe.evaluate
    known = data.sample(0, 0).box is not None
    return {
        name: asdict(
            step_accuracy(
                trained, data, gaze, config.glimpses, config.gaze_seeds, config.batch_size
            )
        )
        for name, gaze in gaze_sources(recipe, trained, known).items()
    }


def _knn(recipe: Recipe, trained: Trained, data: DataSet) -> Results:
    config = recipe.evaluate
    train_data = load_data(recipe, "train", trained.model.finest_zoom)
    uniform = _at_random(recipe, trained)
    seen, whole, labels = features(uniform, train_data, config.glimpses, config.batch_size)
    test_seen, test_whole, truth = features(uniform, data, config.glimpses, config.batch_size)
    return {
        "glimpses": knn_accuracy(seen, labels, test_seen, truth, config.neighbours),
        "vit": knn_accuracy(whole, labels, test_whole, truth, config.neighbours),
    }


def _enlarged(recipe: Recipe, trained: Trained) -> Results:
    config = recipe.evaluate
    data = load_data(recipe, config.split, finest_zoom(trained.model, max(config.enlarge)))
    random_gaze = gaze_sources(recipe, trained, False)["random"]
    return {
        str(factor): enlarged_accuracy(
            trained,
            data,
            factor,
            random_gaze,
            config.glimpses,
            config.enlarge_images,
            config.batch_size,
        )
        for factor in config.enlarge
    }


def _random_init(recipe: Recipe) -> Results:
    """Probe the same network untrained, with the same settings, and measure it alike."""
    run_dir = str(Path(recipe.run_dir) / "random_init")
    untrained = recipe.model_copy(
        update={
            "run_dir": run_dir,
            "init": "random",
            "pretrain": None,
            "policy": None,
            "loggers": (),
        }
    )
    train(untrained)
    trained = load_trained(Path(run_dir)).to(pick_device(recipe.device))
    data = load_data(recipe, recipe.evaluate.split, trained.model.finest_zoom)
    config = recipe.evaluate
    random_gaze = gaze_sources(untrained, trained, False)["random"]
    seen = step_accuracy(
        trained, data, random_gaze, config.glimpses, config.gaze_seeds, config.batch_size
    )
    return {"random": asdict(seen), "vit": vit_accuracy(trained, data, config.batch_size)}


def _pretraining(metrics: Path) -> Results | None:
    """Read the end of pretraining: loss, its distance from ln(prototypes), collapse warnings."""
    if not metrics.is_file():
        return None
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    values = [line for line in lines if "loss" in line][-10:]
    warnings = [line["warning"] for line in lines if "collapse" in line.get("warning", "")]
    mean = {key: fmean(value[key] for value in values) for key in values[-1] if key != "step"}
    return {"steps": values[-1]["step"] + 1, "warnings": warnings, **mean}
