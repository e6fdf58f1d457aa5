"""Training that reads ahead, as on a GPU: nothing but the moment of reading is another."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from fovea.decoding import BadImage
from fovea.engine.stopping import Interrupted, StopRequest, TrainingError, graceful
from fovea.engine.trainer import Trainer
from fovea.extract.config import IntegralConfig
from fovea.extract.integral import IntegralExtractor
from fovea.interfaces import DataSet, Loss, Sample
from fovea.recipe import read_recipe
from fovea.stages.stage import Stage

WHOLE = torch.tensor([[[0.5, 0.5, 0.0]]]).double()  # the window of a square image


class Noise(DataSet):
    """Images of noise, of two sides; one cannot be read, one may do harm."""

    classes = ("even", "odd")

    def __init__(self, faulty: int | None = None):
        self.faulty = faulty

    def __len__(self):
        return 40

    def name(self, index):
        return f"image {index}"

    def sample(self, index, epoch):
        if index == self.faulty:
            raise KeyError("label")
        if index == 20:
            raise BadImage("made so")
        rng = np.random.default_rng([index, epoch])
        side = 5 + index % 2
        return Sample(rng.integers(0, 256, (side, side, 1), np.uint8), index % 3 - 1)


class Classes(Stage):
    """Tells classes apart; asks to stop during a step, by a signal."""

    needs_labels = True

    def __init__(self, stop_at: int = -1):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Sequential(
            nn.Linear(16, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2)
        )
        self.stop_at, self.made = stop_at, 0

    def forward(self, scene, labels, progress, generator):
        self.made += 1
        if self.made == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        rows = scene.read(WHOLE.expand(len(scene), -1, -1)).flatten(1)
        loss = nn.functional.cross_entropy(self.head(rows), labels)
        return Loss(loss, features={"rows": rows})

    def result(self):
        raise NotImplementedError


def train(folder, stop_at=-1, ahead=True, data=None, stop=None, **settings):
    words = [f"run_dir={folder}", "pretrain.steps=12", "pretrain.batch_size=8", "log_every=1"]
    recipe = read_recipe("quickstart", [*words, *(f"{key}={it}" for key, it in settings.items())])
    extractor = IntegralExtractor(IntegralConfig(mode="exact"), patch_size=4)
    stage, where = Classes(stop_at), folder / "pretrain"
    trainer = Trainer(stage, recipe.pretrain, recipe, extractor, data or Noise(), where)
    trainer.ahead = ahead
    trainer.run(stop or StopRequest())
    return stage


def logged(folder):
    lines = (folder / "pretrain/metrics.jsonl").read_text().splitlines()
    timed = {"images_per_second", "data_wait"}
    return [
        {key: value for key, value in json.loads(line).items() if key not in timed}
        for line in lines
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder, train(folder, ahead=False).state_dict()


def assert_same(folder, stage, plain):
    expected, weights = plain
    assert logged(folder) == logged(expected)
    bad = "pretrain/bad_images.jsonl"
    assert (folder / bad).read_text() == (expected / bad).read_text()
    for name, value in stage.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_ahead_changes_no_bit(workers, plain, tmp_path):
    assert_same(tmp_path, train(tmp_path, workers=workers), plain)


@pytest.mark.parametrize("step", range(1, 13))
def test_a_run_that_is_stopped_at_any_step_resumes_to_the_same_bits(step, plain, tmp_path):
    with pytest.raises(Interrupted), graceful() as stop:
        train(tmp_path, stop_at=step, stop=stop)
    resumed = train(tmp_path)
    assert resumed.made == 12 - step
    assert_same(tmp_path, resumed, plain)


def test_an_image_that_cannot_be_read_ends_the_run_after_the_same_step(tmp_path):
    sentences, lines = [], []
    for ahead in (True, False):
        with pytest.raises(TrainingError, match="cannot read image number 7: KeyError") as ended:
            train(tmp_path / str(ahead), ahead=ahead, data=Noise(faulty=7))
        sentences.append(str(ended.value))
        lines.append(logged(tmp_path / str(ahead)))
    assert sentences[0] == sentences[1]
    assert lines[0] == lines[1]
    assert "failed" in lines[0][-1]
