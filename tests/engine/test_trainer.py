"""The trainer's guards: numbers that are not finite, bad images, signals."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from fovea.decoding import BadImage
from fovea.draws import uniform
from fovea.engine.seeding import step_generator
from fovea.engine.stopping import Interrupted, StopRequest, TrainingError, graceful
from fovea.engine.trainer import Trainer
from fovea.extract.config import IntegralConfig
from fovea.extract.integral import IntegralExtractor
from fovea.interfaces import DataSet, Loss, Sample
from fovea.length import Length
from fovea.recipe import read_recipe
from fovea.stages.stage import Stage


class Numbered(DataSet):
    """Forty tiny images; some cannot be read."""

    classes = ("even", "odd")

    def __init__(self, bad=()):
        self.bad = set(bad)

    def __len__(self):
        return 40

    def name(self, index):
        return f"image {index}"

    def sample(self, index, epoch):
        if index in self.bad:
            raise BadImage(f"image {index} cannot be used: made so")
        return Sample(np.full((4, 4, 1), index, np.uint8), index % 2)


class Regression(Stage):
    """Learns one number; at some step its loss or its gradient is not finite."""

    def __init__(self, fault=None, at=5):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[2.0, -1.0]]))
        self.fault, self.at, self.seen, self.updates = fault, at, 0, []

    def forward(self, scene, labels, progress, generator):
        noise = torch.rand((), generator=generator)
        total = (self.weight.sum() - noise).square() * 0.1
        if self.seen == self.at and self.fault == "loss":
            total = total * float("nan")
        if self.seen == self.at and self.fault == "gradient":  # finite, of infinite slope
            total = total + (self.weight * 0).abs().sqrt().sum()
        self.seen += 1
        if self.fault == "signal" and self.seen == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return Loss(total, {"noise": noise})

    def update(self, progress):
        self.updates.append(progress)

    def result(self):
        raise NotImplementedError


def trainer(folder, stage, data=None, steps=20, **settings):
    words = [f"pretrain.steps={steps}", "pretrain.batch_size=4", "log_every=1"]
    words += [f"run_dir={folder}", *(f"{key}={value}" for key, value in settings.items())]
    recipe = read_recipe("quickstart", words)
    extractor = IntegralExtractor(IntegralConfig(mode="exact"), patch_size=4)
    return Trainer(
        stage, recipe.pretrain, recipe, extractor, data or Numbered(), folder / "pretrain"
    )


def steps_of(folder):
    return [
        json.loads(line) for line in (folder / "pretrain/metrics.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize(("fault", "word"), [("loss", "loss"), ("gradient", "gradient")])
def test_a_step_that_is_not_finite_changes_nothing_and_is_kept(fault, word, tmp_path, capsys):
    stage = Regression(fault)
    with pytest.raises(Interrupted):
        trainer(tmp_path, stage).run(_until(5))  # after the sixth step, which is step 5
    before = torch.load(tmp_path / "pretrain/checkpoint-00000006.pt")
    assert len(stage.updates) == 5  # no average followed, either
    assert all(int(average["step"]) == 5 for average in before["optimizer"]["state"].values())
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "skipped" in one]
    assert "step 5 was skipped" in line
    assert word in line
    (file,) = (tmp_path / "pretrain").glob("nonfinite-*.pt")
    kept = torch.load(file, weights_only=True)
    assert kept["step"] == 5
    assert torch.equal(kept["stage"]["weight"], before["stage"]["weight"])
    assert len(kept["names"]) == len(kept["images"]) == 4
    assert [f"image {int(image[0, 0, 0])}" for image in kept["images"]] == kept["names"]
    later = Regression()
    trainer(tmp_path, later).run(StopRequest())
    lines = steps_of(tmp_path)
    assert [line["step"] for line in lines if "loss" in line] == [*range(5), *range(6, 20)]
    assert lines[-1]["skipped_steps"] == 1
    assert torch.isfinite(later.weight).all()


class _until(StopRequest):  # noqa: N801 - reads as a phrase
    """Ask to stop at the n-th question."""

    def __init__(self, asked):
        self.left = asked

    @property
    def number(self):
        self.left -= 1
        return signal.SIGTERM if self.left < 0 else None


def test_bad_images_are_left_out_counted_and_named_once(tmp_path, capsys):
    bad = {3, 17, 30}
    trainer(tmp_path, Regression(), Numbered(bad), steps=30).run(StopRequest())  # three epochs
    lines = [
        json.loads(line)
        for line in (tmp_path / "pretrain/bad_images.jsonl").read_text().splitlines()
    ]
    assert {line["name"] for line in lines} == {f"image {index}" for index in bad}
    assert len(lines) == 3
    assert all("made so" in line["reason"] for line in lines)
    assert "3 images could not be read" in capsys.readouterr().out
    assert len(steps_of(tmp_path)) == 30


def test_bad_images_are_named_once_also_by_a_resumed_run(tmp_path):
    first = trainer(tmp_path, Regression("signal", at=12), Numbered({3, 17}), steps=30)
    with pytest.raises(Interrupted), graceful() as stop:
        first.run(stop)
    resumed = trainer(tmp_path, Regression(), Numbered({3, 17}), steps=30)
    resumed.run(StopRequest())
    assert len(resumed.bad.names) == 2
    assert len((tmp_path / "pretrain/bad_images.jsonl").read_text().splitlines()) == 2


def test_too_many_bad_images_stop_the_run(tmp_path):
    with pytest.raises(TrainingError, match="max_bad_images=2"):
        trainer(tmp_path, Regression(), Numbered(range(10)), max_bad_images=2).run(StopRequest())


def test_a_batch_without_two_good_images_is_passed_over(tmp_path, capsys):
    stage = Regression()
    trainer(tmp_path, stage, Numbered(range(2, 40)), steps=10).run(StopRequest())
    assert stage.seen <= 1
    assert "passed over" in capsys.readouterr().out


@pytest.mark.parametrize("at", [1, 8, 20])
def test_a_signal_saves_the_finished_step_and_ends_also_at_the_last(at, tmp_path):
    with pytest.raises(Interrupted) as stopped, graceful() as stop:
        trainer(tmp_path, Regression("signal", at)).run(stop)
    assert stopped.value.exit_code == 75
    assert (tmp_path / f"pretrain/checkpoint-{at:08d}.pt").is_file()
    resumed = Regression()
    trainer(tmp_path, resumed).run(StopRequest())
    whole = Regression()
    trainer(tmp_path / "whole", whole).run(StopRequest())
    assert torch.equal(resumed.weight, whole.weight)
    assert resumed.seen == 20 - at


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer(tmp_path, Regression()).run(StopRequest())
    other = Regression()
    other.more = nn.Parameter(torch.ones(1))
    with pytest.raises(TrainingError, match=r"another model: it lacks more; use another run_dir"):
        trainer(tmp_path, other).run(StopRequest())


def test_small_batches_of_wide_features_are_no_collapse(tmp_path, capsys):
    """The rank of 4 features of width 384 is 4, which is all that it can be."""

    class Wide(Regression):
        def forward(self, *arguments):
            loss = super().forward(*arguments)
            return Loss(loss.total, features={"wide": torch.randn(4, 384)})

    trainer(tmp_path, Wide(), steps=60).run(StopRequest())
    assert "collapse" not in capsys.readouterr().out


def test_weight_decay_spares_vectors_and_named_parameters(tmp_path):
    class Spared(Regression):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(3))

        def no_weight_decay(self):
            return {"weight"}

    groups = trainer(tmp_path, Spared()).optimizer.param_groups
    assert [(group["decay"], len(group["params"])) for group in groups] == [(False, 2)]
    groups = trainer(tmp_path, Regression()).optimizer.param_groups
    assert [(group["decay"], len(group["params"])) for group in groups] == [(True, 1)]


def test_length_counts_whole_batches_and_schedules():
    recipe = read_recipe(
        "quickstart",
        ["pretrain.steps=null", "pretrain.epochs=2", "pretrain.scheduled_epochs=3"],
    )
    assert Length.of(recipe.pretrain, 130) == Length(steps=4, scheduled=6)  # 64 a batch
    with pytest.raises(ValueError, match="batch_size 64"):
        Length.of(recipe.pretrain, 63)


def test_step_generator_differs_by_seed_stage_and_step_and_from_the_global_one():
    cpu = torch.device("cpu")

    def draws(*key):
        generator = step_generator(*key, cpu, torch.arange(3), 3)
        own, whole = torch.rand(3, generator=generator), uniform((3,), generator)
        return (*own.tolist(), *whole.tolist(), *torch.rand(3).tolist())

    assert draws(0, "a", 1) == draws(0, "a", 1)
    keys = [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2)]
    drawn = [number for key in keys for number in draws(*key)]
    assert len(set(drawn)) == len(drawn)
