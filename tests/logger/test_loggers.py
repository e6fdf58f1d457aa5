"""Loggers: what is logged is there, of a killed run too, and a resumed run draws on."""

import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea

LOG = """
import os, sys
from pathlib import Path
import fovea

name, folder, *stages = sys.argv[1:]
run = {"seed": 0, "data": {"name": "fashion", "size": [56, 56]}, "init": None}
offline = {"mode": "offline"} if name == "wandb" else {}
for one in stages:
    stage, start, stop = one.split(":")
    where = {"folder": Path(folder), "stage": stage, "start": int(start), "run": run}
    logger = fovea.create("logger", name, **where, **offline)
    for step in range(int(start), int(stop)):
        logger.metrics(step, {"loss": step + int(start) / 100, "online/knn_vit": 0.5})
    if stage == "killed":
        os._exit(1)
    logger.warning(step, "beware")
    logger.picture(step, "seen", Path(folder) / "seen.png")
    logger.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(made / "seen.png")
    return made


def log(name: str, folder: Path, *stages: str) -> None:
    """Log stages, ``name:start:stop``, in a process of its own, with a home beside the folder."""
    words = [sys.executable, "-c", LOG, name, str(folder), *stages]
    own = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    apart = {key: str(folder.parent / "home") for key in ("HOME", "TRACKIO_DIR")}
    done = subprocess.run(words, env={**own, **apart}, capture_output=True, text=True)
    assert done.returncode == any("killed" in stage for stage in stages), done.stderr


def events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_tensorboard_forgets_what_a_resumed_run_does_again(folder: Path):
    log("tensorboard", folder, "pretrain:0:10")
    log("tensorboard", folder, "pretrain:6:12")
    found = events(folder / "pretrain" / "tensorboard")
    scalars = found.Scalars("pretrain/loss")
    assert [one.step for one in scalars] == list(range(12))  # none of them twice
    assert [scalars[step].value for step in (5, 6, 11)] == pytest.approx([5.0, 6.06, 11.06])
    assert found.Images("pretrain/seen")[-1].width == 12


def test_tensorboard_holds_nothing_back_that_a_kill_would_lose(folder: Path):
    log("tensorboard", folder, "killed:0:300")
    found = events(folder / "killed" / "tensorboard")
    assert [one.step for one in found.Scalars("killed/loss")] == list(range(300))


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_offline_keeps_one_run_for_all_stages_and_starts(folder: Path):
    log("wandb", folder, "pretrain:0:10")
    log("wandb", folder, "pretrain:6:12", "probe:0:3")
    chosen = (folder / "wandb" / "run_id.txt").read_text().strip()
    histories = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert {file.name for file in histories} == {f"run-{chosen}.wandb"}
    texts = [file.read_bytes() for file in histories]
    assert sum(b"pretrain/loss" in text for text in texts) == 2
    assert sum(b"probe/step" in text for text in texts) == 1
    assert all(b"online/knn_vit" in text for text in texts)
    assert len(list((folder / "wandb").rglob("*/media/images/pretrain/seen_*.png"))) == 2


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_without_a_key_is_one_sentence_before_training(tmp_path: Path):
    own = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    words = [sys.executable, "-m", "fovea.train", "smoke", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [*words, "loggers=[{name: wandb, mode: online}]"],
        env={**own, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("fovea: ")]
    assert said.startswith("fovea: loggers.0 (wandb): did not start: ")
    assert "wandb login" in said
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").rglob("metrics.jsonl"))


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_keeps_one_run_for_all_stages_and_starts(folder: Path):
    log("trackio", folder, "pretrain:0:10")
    log("trackio", folder, "pretrain:6:12", "probe:0:3")
    (base,) = (folder.parent / "home").glob("*.db")
    with sqlite3.connect(base) as table:
        rows = table.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
    chosen = (folder / "trackio" / "run_id.txt").read_text().strip()
    assert {name for name, _, _ in rows} == {f"run-{chosen}"}
    assert {step for _, step, text in rows if b"pretrain/loss" in bytes(text)} == set(range(12))
    assert {step for _, step, text in rows if b"probe/loss" in bytes(text)} == {0, 1, 2}


@pytest.mark.parametrize("package", ["tensorboard", "wandb", "trackio"])
def test_a_logger_names_the_extra_that_it_needs(
    package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"pip install 'fovea-vit\[{package}\]'"):
        fovea.create("logger", package, folder=folder, stage="probe", start=0, run={})
