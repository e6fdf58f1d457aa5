"""Measuring beside training: the numbers are right, and training does not notice."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fovea.decoding import BadImage
from fovea.engine.log import RunLog
from fovea.engine.online import Online
from fovea.engine.run import train
from fovea.evaluate.embed import Some, embed
from fovea.interfaces import DataSet, Sample
from fovea.model import assemble
from fovea.recipe import OnlineConfig, read_recipe
from fovea.runs import list_runs
from fovea.stages.pretrain import Pretrain
from fovea.trained import Trained

TINY = [
    *("threads=1", "device=cpu", "log_every=1", "data.size=[28,28]"),
    *("model.backbone.width=16", "model.backbone.depth=1", "model.backbone.drop_path=0.1"),
    *("model.context.zooms=[0,1]", "model.context.grid=2", "model.vit_context.grid=3"),
    *("pretrain.steps=6", "pretrain.batch_size=400", "pretrain.objective.glimpses=2"),
    *("pretrain.objective.locals=1", "pretrain.objective.global_crop.grid=3"),
    *("pretrain.objective.head.hidden=16", "pretrain.objective.head.prototypes=16"),
    *("probe.epochs=null", "probe.steps=3", "probe.batch_size=8", "probe.glimpses=2"),
    *("policy.steps=3", "policy.batch_size=4", "policy.glimpses=2", "policy.traces=2"),
    "policy.policy.depth=1",
]
ONLINE = "online={every_epochs: 0.2, images: 40, glimpses: 3, pictures: 2}"  # an epoch is 10 steps


class Greys(DataSet):
    """Dark and bright images, in blocks of ten; some cannot be read, some have no label."""

    Config = OnlineConfig
    classes = ("dark", "bright")

    def __init__(self, bad: tuple[int, ...] = (), unknown: tuple[int, ...] = ()):
        self.bad, self.unknown = bad, unknown

    def __len__(self) -> int:
        return 40

    def name(self, index: int) -> str:
        return str(index)

    def sample(self, index: int, epoch: int) -> Sample:
        if index in self.bad:
            raise BadImage("made so")
        label = index // 10 % 2
        image = np.full((20, 24, 1), 180 * label + index, np.uint8)
        return Sample(image, -1 if index in self.unknown else label)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the same stages with measurements beside them and without."""
    folder = tmp_path_factory.mktemp("runs")
    for name, words in (("with", [ONLINE, "loggers=[tensorboard]"]), ("without", [])):
        train(read_recipe("quickstart", [f"run_dir={folder / name}", *TINY, *words]))
    return folder


def lines(run: Path, stage: str) -> list[dict]:
    return [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", ["pretrain", "probe", "policy"])
def test_training_ends_in_the_same_bits_with_measurements_and_without(runs: Path, stage: str):
    def logged(run: Path) -> list[dict]:
        timing = {"images_per_second", "data_wait"}
        kept = [line for line in lines(run, stage) if "loss" in line]
        return [{k: v for k, v in line.items() if k not in timing} for line in kept]

    assert logged(runs / "with") == logged(runs / "without")
    for pattern in ("trained.pt", "checkpoint-*.pt"):
        one, other = (
            dict(_tensors(torch.load(max((runs / name / stage).glob(pattern)), weights_only=True)))
            for name in ("with", "without")
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def _tensors(tree: object, where: str = ""):
    if isinstance(tree, torch.Tensor):
        yield where, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _tensors(value, f"{where}.{key}")


def test_measurements_come_when_asked_and_at_the_end(runs: Path):
    measured = [line for line in lines(runs / "with", "pretrain") if "online/knn_vit" in line]
    assert [line["step"] for line in measured] == [1, 3, 5]
    numbers = {"knn_glimpses", "knn_vit", "probe_vit", "probe_1", "probe_2", "probe_3"}
    for line in measured:
        assert line.keys() == {"step", *(f"online/{name}" for name in numbers)}
        assert all(0 <= line[f"online/{name}"] <= 1 for name in numbers)


def test_pictures_are_drawn_and_shown_to_loggers(runs: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = sorted(file.name for file in (runs / "with").rglob("pictures/*"))
    steps = [f"step-{step:08d}-neighbours.png" for step in (2, 4, 6)]
    assert drawn == ["seen.png", *steps[:1], "step-00000003-gaze_paths.png", *steps[1:]]
    for file in (runs / "with").rglob("pictures/*"):
        with Image.open(file) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20  # something is drawn
    events = EventAccumulator(str(runs / "with" / "pretrain" / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Images("pretrain/neighbours")] == [1, 3, 5]
    assert [one.step for one in events.Scalars("pretrain/online/knn_vit")] == [1, 3, 5]


def test_a_run_folder_says_what_each_of_its_files_is(runs: Path):
    about = (runs / "with" / "README.txt").read_text()
    words = {word for line in about.splitlines() if "  " in line for word in line.split()}
    for file in (runs / "with").rglob("*"):
        known = {f"{file.name}/", file.name} if file.is_dir() else {file.name}
        told = any(Path(file.name).match(word) for word in words if "*" in word)
        inside = file.parent.name in ("pictures", "tensorboard")  # named as a folder
        assert told or inside or known & words or file.name in ("README.txt", ".lock"), file


def test_environment_tells_code_machine_and_every_start(runs: Path):
    file = runs / "without" / "environment.json"
    before = json.loads(file.read_text())
    assert before["packages"]["torch"] == torch.__version__.split("+")[0]
    assert before["threads"] == 1
    assert before["processes"] == 1
    assert len(before["starts"]) == 1
    train(read_recipe("quickstart", [f"run_dir={runs / 'without'}", *TINY]))
    after = json.loads(file.read_text())
    assert after["starts"][0] == before["starts"][0]
    assert len(after["starts"]) == 2
    assert after["starts"][1]["command"]


def test_real_runs_are_listed_with_their_differences(runs: Path):
    found, problems = list_runs(runs)
    assert not problems
    assert [(run.name, run.state, run.stage) for run in found] == [
        ("with", "finished", "policy"),
        ("without", "finished", "policy"),
    ]
    assert [(run.step, run.steps) for run in found] == [(3, 3)] * 2
    assert set(found[0].differs) == {"loggers", "online"}
    assert found[1].differs["online"] is None
    measured = [line for line in lines(runs / "with", "pretrain") if "online/knn_vit" in line]
    best = max(line["online/knn_vit"] for line in measured)
    assert found[0].best["online/knn_vit"] == best
    assert not found[1].best


def tiny_model() -> Trained:
    torch.manual_seed(0)
    return Trained(assemble(read_recipe("quickstart", TINY).model))


def test_unreadable_and_unlabelled_images_are_left_out_and_places_stay_right():
    bad, unknown = (0, 5, 6, 7, 8, 9, 39), (3, 20)
    found = embed(tiny_model().model, Greys(bad, unknown), glimpses=2, batch_size=5)
    kept = [index for index in range(40) if index not in (*bad, *unknown)]
    assert found.places.tolist() == kept
    assert found.labels.tolist() == [index // 10 % 2 for index in kept]
    assert found.seen.shape == (2, len(kept), 16)
    alone = embed(tiny_model().model, Greys(tuple(set(range(40)) - {17})), 2, 5)
    torch.testing.assert_close(found.whole[kept.index(17)], alone.whole[0])
    with pytest.raises(ValueError, match="none of 40 images"):
        embed(tiny_model().model, Greys(unknown=tuple(range(40))), 1, 8)


def test_some_images_are_the_same_each_time_and_of_all_kinds():
    some = Some(Greys(), 20)
    assert some.indices == Some(Greys(), 20).indices == sorted(set(some.indices))
    assert len(some) == 20
    assert {some.sample(place, 0).label for place in range(20)} == {0, 1}
    assert [some.name(place) for place in range(20)] == [str(index) for index in some.indices]
    assert len(Some(Greys(), 1000)) == 40


def test_classes_that_differ_at_a_glance_are_told_apart(tmp_path: Path):
    made = online(tmp_path, Greys())
    with RunLog(tmp_path, "pretrain", 0, 1, 1) as log:
        made.measure(0, log)
    (line,) = [json.loads(one) for one in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert line.pop("step") == 0
    assert set(line.values()) == {1.0}


def online(folder: Path, val: DataSet | None, **changes: object) -> Online:
    trained = tiny_model()
    config = OnlineConfig(
        **{"images": 40, "glimpses": 2, "pictures": 0, "neighbours": 3, **changes}
    )
    stage = Pretrain(read_recipe("quickstart", TINY).pretrain, trained)
    where = folder / "pretrain"
    return Online(config, where, stage, lambda: stage.result(), Greys(), val, per_epoch=10)


class Loud(nn.Module):
    """A part that notices when it is used in training mode, and draws as drop path does."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: object) -> object:
        assert not self.training
        torch.rand(3)
        return self.inner(*inputs)


def test_modes_and_global_draws_are_left_as_they_were(tmp_path: Path):
    made = online(tmp_path, Greys())
    stage, student = made.stage, made.stage.objective.student
    student.blocks = nn.Sequential(Loud(student.blocks))

    def current() -> Trained:  # an objective may name the network that it trains
        return replace(stage.start, model=stage.start.model.eval())

    made.current = current
    stage.train()
    modes = [module.training for module in stage.modules()]
    draws = torch.get_rng_state()
    with RunLog(tmp_path, "pretrain", 0, 1, 1) as log:
        made.measure(0, log)
    assert [module.training for module in stage.modules()] == modes
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(one.grad is None for one in stage.parameters())


@pytest.mark.parametrize(
    ("every", "due"), [(1.0, [9, 19]), (0.5, [4, 9, 14, 19]), (0.01, list(range(20))), (3.0, [])]
)
def test_due_after_so_many_epochs(every: float, due: list[int], tmp_path: Path):
    made = online(tmp_path, Greys(), every_epochs=every)
    assert [step for step in range(20) if made.is_due(step, last=False)] == due
    assert made.is_due(12, last=True)


def test_without_labels_one_sentence_and_a_picture(tmp_path: Path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 256, (40, 30), dtype=np.uint8)
        Image.fromarray(noise).save(images / f"{number}.png")
    words = [word for word in TINY if not word.startswith(("data", "probe", "policy"))]
    words += ["data.name=folder", f"data.root={images}", "probe=null", "policy=null", ONLINE]
    run = tmp_path / "run"
    train(read_recipe("quickstart", [*words, f"run_dir={run}", "pretrain.batch_size=5"]))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("online")]
    assert len(said) == 1
    assert said[0].startswith("online: nothing is classified beside training, only drawn: data.val")
    assert [file.name for file in run.rglob("pictures/*")] == ["seen.png"]
    assert not [line for line in lines(run, "pretrain") if "online/knn_vit" in line]


@pytest.mark.fault
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_that_train_together_do_not_notice_either(parallel: str, tmp_path: Path):
    words = [*TINY, f"parallel={parallel}", "probe=null", "policy=null"]
    words = [word for word in words if not word.startswith(("probe.", "policy."))]
    weights = []
    for name, changes in (("with", [ONLINE, "loggers=[tensorboard]"]), ("without", [])):
        run = tmp_path / name
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
             "-m", "fovea.train", "quickstart", f"run_dir={run}", *words, *changes],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        weights.append(dict(_tensors(torch.load(run / "pretrain/trained.pt", weights_only=True))))
    one, other = weights
    assert all(torch.equal(one[key], other[key]) for key in one)
    measured = [line for line in lines(tmp_path / "with", "pretrain") if "online/knn_vit" in line]
    assert [line["step"] for line in measured] == [1, 3, 5]
    assert len(list((tmp_path / "with/pretrain/tensorboard").iterdir())) == 1
