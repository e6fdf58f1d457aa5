"""Slides in the trainer, from YAML."""

import json
import math
from pathlib import Path
from shutil import copytree

import pytest

from fovea.engine.capture import replay
from fovea.eval import main as evaluate
from fovea.train import main as train

TINY = str(Path(__file__).parent / "tiny.yaml")


def losses(run_dir: Path) -> list[float]:
    lines = (run_dir / "pretrain/metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


@pytest.mark.parametrize("unit", ["region", "slide"])
def test_worker_processes_change_nothing(root, tmp_path, unit):
    words = ["data.unit=slide", "data.region=4096", "pretrain.batch_size=2"]
    for workers in (0, 2):
        settings = [f"data.root={root}", f"workers={workers}", f"run_dir={tmp_path / str(workers)}"]
        assert train([TINY, *settings, *(words if unit == "slide" else [])]) == 0
    assert len(losses(tmp_path / "0")) == 3
    assert losses(tmp_path / "0") == losses(tmp_path / "2")


def test_a_truncated_slide_is_left_out_and_named(root, tmp_path, capsys):
    slides = copytree(root / "train", tmp_path / "slides")
    (slides / "pink/9.tif").write_bytes((slides / "pink/0.tif").read_bytes()[:100_000])
    run = tmp_path / "run"
    settings = [f"data.root={slides}", "data.tissue=0.0", f"run_dir={run}"]
    assert train([TINY, *settings, "pretrain.batch_size=8", "pretrain.steps=8"]) == 0
    (line,) = (run / "pretrain/bad_images.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "pink/9.tif"
    assert "pink/9.tif' cannot be used" in json.loads(line)["reason"]
    assert "1 images could not be read and were left out: pink/9.tif" in capsys.readouterr().out


@pytest.mark.parametrize("extractor", ["integral", "resize"])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_extractor_that_opens_nothing_says_so(root, tmp_path, capsys, extractor, workers):
    settings = [f"data.root={root}", f"workers={workers}", f"run_dir={tmp_path}"]
    assert train([TINY, *settings, f"model.extractor.name={extractor}"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert ".tif[" in said[0]
    assert "choose an extractor that opens it, as pyramid does" in said[0]


def test_slides_are_measured_and_drawn(root, tmp_path, capsys):
    words = [f"data.root={root}", f"run_dir={tmp_path}", "online.images=8", "online.neighbours=2"]
    words += ["online.pictures=2", "online.glimpses=2", "probe.batch_size=2", "probe.steps=2"]
    words += ["probe.glimpses=2", "probe.head.name=linear"]
    assert train([TINY, *words]) == 0
    drawn = {file.name for file in (tmp_path / "pretrain/pictures").iterdir()}
    assert {"seen.png", "step-00000003-neighbours.png"} <= drawn
    words = ["split=val", "gaze_seeds=1", "glimpses=2", "neighbours=2", "pictures=1"]
    assert evaluate([str(tmp_path), *words]) == 2
    assert "only images in memory can be enlarged" in capsys.readouterr().err
    assert evaluate([str(tmp_path), *words, "enlarge=[]"]) == 0
    assert (tmp_path / "eval/seen.png").is_file()
    assert not (tmp_path / "eval/enlarged.png").exists()


def test_a_step_that_blew_up_is_made_again_from_the_slides(root, tmp_path):
    words = [f"data.root={root}", f"run_dir={tmp_path}", "pretrain.optimizer.lr=1e30"]
    assert train([TINY, *words, "pretrain.steps=9"]) == 1
    file = max((tmp_path / "pretrain").glob("nonfinite-step-*.pt"))
    assert not math.isfinite(replay(file).loss)
