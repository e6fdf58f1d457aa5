"""Collapses made by training: each is named while it happens, and a healthy run is left alone."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fovea.objective.seq2global as objective
from fovea.engine.run import train
from fovea.recipe import read_recipe

GRACE, WITHIN = 50, 50  # steps: every network looks collapsed at first


def warnings(folder: Path, steps: int, *words: str) -> dict[str, int]:
    """Pretrain the small model of ``smoke``; return the kinds of collapse, each with its step."""
    short = ["probe=null", "policy=null", f"pretrain.steps={steps}", "log_every=5", "device=cpu"]
    train(read_recipe("smoke", [f"run_dir={folder}", *short, *words]))
    lines = map(json.loads, (folder / "pretrain" / "metrics.jsonl").read_text().splitlines())
    return {line["warning"].split("(")[1].split(")")[0]: line["step"] for line in lines
            if "warning" in line}  # fmt: skip


@pytest.mark.fault
def test_a_healthy_run_fires_nothing(tmp_path: Path) -> None:
    assert warnings(tmp_path, 160) == {}


@pytest.mark.fault
def test_without_centring_predictions_fall_on_few_prototypes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sharpened_only(logits: Tensor, temperature: float, iterations: int) -> Tensor:
        return (logits / temperature).softmax(-1).detach()

    monkeypatch.setattr(objective, "sinkhorn", sharpened_only)
    found = warnings(tmp_path, GRACE + WITHIN, "pretrain.objective.koleo=0")
    assert set(found) == {"one prototype"}


@pytest.mark.fault
def test_weights_that_decay_to_nothing_make_features_constant(tmp_path: Path) -> None:
    words = ["pretrain.objective.koleo=0", "pretrain.optimizer.weight_decay=100"]
    found = warnings(tmp_path, GRACE + WITHIN, *words)
    assert {"constant features", "low rank"} <= set(found)
    assert "one prototype" not in found


def test_the_watch_looks_at_whole_views_and_glimpses_apart() -> None:
    from fovea.engine.watch import CollapseWatch

    healthy, constant = torch.randn(64, 32), torch.ones(64, 32)
    for sick in ("global", "glimpse"):
        features = {"global": healthy, "glimpse": healthy, sick: constant}
        watch = CollapseWatch()
        measured = watch.measure(features)
        assert measured[f"spread_{sick}"] < 0.1 < 0.5 < measured[f"rank_{sick}"]
        assert any("constant features" in text for text in watch.warnings(50, measured, 32))
