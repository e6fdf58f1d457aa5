"""A run on a device: all stages, what is measured beside them, evaluation, resume, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fovea
from fovea.engine.checkpoint import load_file
from fovea.engine.run import load_data
from fovea.eval import main as measure
from fovea.evaluate import gazes
from fovea.evaluate.accuracy import step_accuracy
from fovea.evaluate.embed import Some, embed
from fovea.export import main as export
from fovea.recipe import read_recipe
from fovea.testing.second_device import second_device
from fovea.train import main as train
from fovea.trained import load_trained

STAGES = ("pretrain", "probe", "policy")
SHORT = [
    *("device=cuda", "log_every=1", "checkpoint_every=2", "keep=9", "data.name=folder"),
    *("pretrain.steps=4", "pretrain.batch_size=4", "pretrain.objective.glimpses=2"),
    *("probe.steps=3", "probe.batch_size=4", "probe.glimpses=2"),
    *("policy.steps=3", "policy.batch_size=4", "policy.glimpses=2", "policy.traces=2"),
    *("policy.policy.depth=1", "evaluate.enlarge=[1,2]", "evaluate.glimpses=2"),
    "online={every_epochs: 1, images: 6, batch_size: 3, glimpses: 2, neighbours: 2, pictures: 1}",
]


def settings(folder: Path) -> list[str]:
    return ["smoke", *SHORT, f"data.root={folder / 'images'}", f"run_dir={folder / 'run'}"]


def write_photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("dark", "light"):
            (folder / split / label).mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 128, (40 + 5 * i, 70 - 3 * i, 3), dtype=np.uint8)
                picture = Image.fromarray(pixels + 127 * (label == "light"))
                picture.save(folder / split / label / f"{i}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three stages on the device, measured beside training, and then evaluated."""
    made = tmp_path_factory.mktemp("device")
    write_photographs(made / "images")
    with second_device():
        assert train(settings(made)) == 0
        assert measure([str(made / "run"), "split=val", "gaze_seeds=1", "pictures=1"]) == 0
    return made


@pytest.fixture(scope="module")
def on_cpu(folder: Path) -> Path:
    """The same run on the CPU, its first stage only."""
    words = [*settings(folder), "device=cpu", "probe=null", "policy=null"]
    assert train([*words, f"run_dir={folder / 'cpu'}"]) == 0
    return folder / "cpu"


def losses(run: Path, stage: str) -> list[float]:
    lines = map(json.loads, (run / stage / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def test_all_stages_train_and_are_measured_on_a_device(folder: Path) -> None:
    run = folder / "run"
    assert [len(losses(run, stage)) for stage in STAGES] == [4, 3, 3]
    seen = (run / "pretrain/metrics.jsonl").read_text()
    assert "online/knn_glimpses" in seen
    results = json.loads((run / "eval/results.json").read_text())
    assert set(results["gazes"]) == {
        *("random", "fixed centre", "centre Gaussian", "policy", "policy, greedy")
    }
    assert set(results["knn"]) == {"glimpses", "vit"}
    assert set(results["enlarge"]) == {"1", "2"}


def test_a_device_starts_from_the_loss_of_the_cpu(folder: Path, on_cpu: Path) -> None:
    """With the same weights, views and gazes: they are drawn by another generator on a real GPU."""
    first = losses(folder / "run", "pretrain")[0]
    rounding = 0.2 if torch.cuda.is_available() else 1e-5
    assert first == pytest.approx(losses(on_cpu, "pretrain")[0], rel=rounding)


def test_a_run_resumes_on_a_device(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for stage, step in (("pretrain", 2), ("probe", 2), ("policy", 2)):
        (run / stage).mkdir(parents=True)
        for name in (f"checkpoint-{step:08d}.pt", "metrics.jsonl"):
            (run / stage / name).write_bytes((folder / "run" / stage / name).read_bytes())
    with second_device():
        assert train([*settings(folder), f"run_dir={run}"]) == 0
    for stage in STAGES:
        assert losses(run, stage) == losses(folder / "run", stage)
        one, two = (
            load_file(max((at / stage).glob("checkpoint-*.pt"))) for at in (run, folder / "run")
        )
        assert one["stage"].keys() == two["stage"].keys()
        assert all(torch.equal(one["stage"][key], two["stage"][key]) for key in one["stage"])


def test_what_a_device_saved_loads_on_the_cpu_and_on_a_device(folder: Path) -> None:
    pictures = [np.full((50, 40, 1), 99, np.uint8), np.zeros((30, 90, 1), np.uint8)]
    model = fovea.load_model(folder / "run")
    out = model(pictures, 2, torch.Generator().manual_seed(1))
    with second_device():
        moved = fovea.load_model(folder / "run").to("cuda")
        there = moved(pictures, 2, torch.Generator().manual_seed(1))
        assert there.embedding.device.type == "cuda"
        torch.testing.assert_close(there.gazes.cpu(), out.gazes, rtol=0, atol=1e-4)
        torch.testing.assert_close(there.embedding.cpu(), out.embedding, rtol=1e-3, atol=1e-3)
        whole = moved.vit(pictures).cpu()
    torch.testing.assert_close(whole, model.vit(pictures), rtol=1e-3, atol=1e-3)


def test_a_run_of_a_device_is_exported(folder: Path, tmp_path: Path) -> None:
    for what in ("model", "student", "teacher"):
        with second_device():
            assert export([str(folder / "run"), str(tmp_path / what), "--what", what]) == 0
        weights = fovea.load_model(str(tmp_path / what)).state_dict()
        assert all(one.device.type == "cpu" for one in weights.values())


def test_a_model_on_a_device_is_saved(folder: Path, tmp_path: Path) -> None:
    trained = load_trained(folder / "run")
    wanted = {name: one.clone() for name, one in trained.weights().items()}
    with second_device() as device:
        trained.to(device).save(tmp_path / "trained.pt")
    found = load_file(tmp_path / "trained.pt")["weights"]
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_run_of_the_cpu_goes_on_on_a_device(on_cpu: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    images = f"data.root={on_cpu.parent / 'images'}"
    with second_device():
        words = ["pretrain=null", "policy=null", f"init={on_cpu}", f"run_dir={run}"]
        assert train(["smoke", *SHORT, images, *words]) == 0
    assert len(losses(run, "probe")) == 3


def test_features_of_a_device_are_those_of_the_cpu(folder: Path) -> None:
    recipe = read_recipe(str(folder / "run/config.yaml"))
    data, trained = load_data(recipe, "val"), load_trained(folder / "run")
    plain = embed(trained.model, data, 2, 5)
    with second_device() as device:
        there = embed(trained.to(device).model, data, 2, 5)
        assert there.seen.device == device
        assert torch.equal(there.labels.cpu(), plain.labels)
        torch.testing.assert_close(there.whole.cpu(), plain.whole, rtol=1e-3, atol=1e-3)


def test_gazes_at_the_object_work_on_a_device(folder: Path) -> None:
    """The embedded data know where the object is."""
    recipe = read_recipe("smoke")
    garments = Some(load_data(recipe, "val"), 6)
    trained = load_trained(folder / "run")
    with second_device() as device:
        found = step_accuracy(trained.to(device), garments, gazes.oracle, 2, 1, 3)
    assert found.hit_rate == [1.0, 1.0]
