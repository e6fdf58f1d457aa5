"""The whole way, as a user goes it: train all stages, evaluate, load, use."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    run_dir = folder / "run"
    short = ["pretrain.steps=20", "probe.steps=20", "policy.steps=4"]
    done = run("fovea.train", "smoke", f"run_dir={run_dir}", *short)
    assert done.returncode == 0, done.stderr
    assert "done; everything is in" in done.stdout
    assert "decoded" not in done.stdout  # nothing is, of this data set
    return run_dir


def test_run_folder_holds_config_metrics_and_results_of_each_stage(smoke_run: Path):
    assert (smoke_run / "config.yaml").is_file()
    for stage in ("pretrain", "probe", "policy"):
        lines = (smoke_run / stage / "metrics.jsonl").read_text().splitlines()
        assert all("loss" in json.loads(line) for line in lines)
        assert (smoke_run / stage / "trained.pt").is_file()


def test_finished_run_is_not_trained_again(smoke_run: Path):
    short = ["pretrain.steps=20", "probe.steps=20", "policy.steps=4"]
    again = run("fovea.train", "smoke", f"run_dir={smoke_run}", *short)
    assert again.returncode == 0
    assert again.stdout.count("finished before") == 3


def test_evaluation_prints_a_table_and_writes_report_and_pictures(smoke_run: Path):
    done = run(
        "fovea.eval",
        str(smoke_run),
        "split=val",
        "enlarge=[1,2]",
        "enlarge_images=50",
        "pictures=2",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((smoke_run / "eval" / "results.json").read_text())
    ways = {"random", "fixed centre", "centre Gaussian", "oracle", "policy", "policy, greedy"}
    assert set(results["gazes"]) == ways
    for way in results["gazes"].values():
        assert len(way["accuracy"]) == len(way["spread"]) == len(way["hit_rate"]) == 4
    shown = f"{100 * results['gazes']['policy']['accuracy'][-1]:.1f}"
    assert shown in done.stdout
    report = (smoke_run / "eval" / "report.md").read_text()
    for name in ("accuracy.png", "enlarged.png", "gaze_paths.png", "seen.png"):
        assert f"({name})" in report
        with Image.open(smoke_run / "eval" / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20  # something is drawn


def test_trained_model_loads_and_looks_where_its_policy_says(smoke_run: Path):
    model = fovea.load_model(smoke_run)
    images = [np.zeros((90, 40, 1), np.uint8), np.full((30, 200, 1), 200, np.uint8)]
    out = model(images, glimpses=3)
    assert out.states.shape == (2, 3, 4, 64)
    assert model.config.policy.name == "gmm"


def test_stages_of_separate_runs_continue_each_other(smoke_run: Path, tmp_path: Path):
    run_dir = tmp_path / "second_probe"
    words = ["pretrain=null", "policy=null", f"init={smoke_run}", "probe.head.name=transformer"]
    done = run("fovea.train", "smoke", f"run_dir={run_dir}", *words, "probe.head.heads=4",
               "probe.steps=5")  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = fovea.load_model(smoke_run), fovea.load_model(run_dir)
    for one, other in zip(before.backbone.parameters(), after.backbone.parameters(), strict=True):
        assert one.equal(other)


def test_folder_of_photographs_of_mixed_sizes_trains(tmp_path: Path):
    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(12):
        height, width = rng.integers(20, 300, size=2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i}.jpg")
    Image.effect_noise((500, 450), 50).save(images / "large.jpg")
    (images / "broken.jpg").write_bytes(b"not a photograph")
    words = ["data.name=folder", f"data.root={images}", "probe=null", "policy=null"]
    words += ["pretrain.batch_size=4", "pretrain.steps=9", f"run_dir={tmp_path / 'run'}"]
    done = run("fovea.train", "smoke", *words)
    assert done.returncode == 0, done.stderr
    assert "1 images could not be read and were left out: broken.jpg" in done.stdout
    assert "decoded no larger than it sees them, with a shorter side of 215 pixels" in done.stdout


def test_evaluating_what_was_not_trained_is_one_sentence(tmp_path: Path):
    done = run("fovea.eval", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"fovea: {tmp_path}: no run (it has no config.yaml); train one first\n"
