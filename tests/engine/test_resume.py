"""A run that is stopped, by whatever means and whenever, ends with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

STAGES = ("pretrain", "probe", "policy")
TINY = [
    "threads=1",
    "device=cpu",
    "log_every=1",
    "checkpoint_every=7",
    "data.size=[28,28]",
    "model.backbone.width=16",
    "model.backbone.depth=1",
    "model.backbone.drop_path=0.1",
    "model.context.zooms=[0,1]",
    "model.context.grid=2",
    "model.vit_context.grid=3",
    "pretrain.steps=40",
    "pretrain.batch_size=8",
    "pretrain.objective.locals=1",
    "pretrain.objective.glimpses=2",
    "pretrain.objective.global_crop.grid=3",
    "pretrain.objective.head.hidden=16",
    "pretrain.objective.head.prototypes=16",
    "probe.epochs=null",
    "probe.steps=30",
    "probe.batch_size=8",
    "probe.glimpses=2",
    "policy.steps=30",
    "policy.batch_size=4",
    "policy.glimpses=2",
    "policy.traces=2",
    "policy.policy.depth=1",
]


class Run:
    """A training run of our command in a folder, in a process of its own."""

    def __init__(self, folder: Path, *overrides: str):
        self.folder = folder
        command = [sys.executable, "-m", "fovea.train", "quickstart", f"run_dir={folder}"]
        self.process = subprocess.Popen(
            [*command, *TINY, *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )

    def finish(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was printed."""
        printed, _ = self.process.communicate(timeout=120)
        return self.process.returncode, printed

    def stop(self, number: signal.Signals, steps: int, stage: str | None = None) -> tuple[int, str]:
        """Send a signal once this process has logged so many steps (of a stage)."""
        folders = [self.folder / name for name in ([stage] if stage else STAGES)]
        seen, deadline = 0, time.monotonic() + 90
        sizes: list[int | None] = [None] * len(folders)
        while self.process.poll() is None and seen < steps:
            assert time.monotonic() < deadline, "the run makes no steps"
            for i, folder in enumerate(folders):
                file = folder / "metrics.jsonl"
                size = file.stat().st_size if file.is_file() else 0
                if sizes[i] is not None and size > sizes[i]:
                    seen += 1  # one or more steps
                sizes[i] = size
            time.sleep(0.002)
        self.process.send_signal(number)
        return self.finish()


def logged(folder: Path, stage: str) -> list[dict[str, float]]:
    """Read all that was logged of each step, save the speed."""
    lines = (folder / stage / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    return [{k: v for k, v in step.items() if k != "images_per_second"} for step in steps]


def assert_same_run(folder: Path, reference: Path) -> None:
    for stage in STAGES:
        ours, theirs = logged(folder, stage), logged(reference, stage)
        steps = [line["step"] for line in theirs if "loss" in line]  # others are warnings
        assert steps == list(range(len(steps)))
        assert {"loss", "gradient_norm", "lr"} <= theirs[0].keys()
        assert ours == theirs, stage
        for name in ("trained.pt", None):
            one, other = (_weights(where / stage, name) for where in (folder, reference))
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one), stage


def _weights(folder: Path, name: str | None) -> dict[str, torch.Tensor]:
    """Read the weights of a result, or all tensors of the newest checkpoint."""
    file = folder / name if name else max(folder.glob("checkpoint-*.pt"))
    return dict(_tensors(torch.load(file, weights_only=True)))


def _tensors(tree: object, where: str = ""):
    if isinstance(tree, torch.Tensor):
        yield where, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _tensors(value, f"{where}.{key}")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """Train without an interruption."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    code, printed = Run(folder).finish()
    assert code == 0, printed
    return folder


def test_sigterm_ctrl_c_and_sigkill_in_turn_change_no_bit(reference, tmp_path):
    folder = tmp_path / "run"
    code, printed = Run(folder).stop(signal.SIGTERM, 5, "pretrain")
    assert code == 75, printed
    assert "stopped by SIGTERM" in printed
    assert list((folder / "pretrain").glob("checkpoint-*.pt"))
    code, printed = Run(folder).stop(signal.SIGINT, 5, "probe")
    assert code == 130, printed
    assert "pretrain: resumed at step" in printed
    code, printed = Run(folder).stop(signal.SIGKILL, 10, "policy")
    assert code == -signal.SIGKILL, printed
    code, printed = Run(folder).finish()
    assert code == 0, printed
    assert "policy: resumed at step" in printed
    assert_same_run(folder, reference)


def test_a_finished_run_is_left_as_it_is_and_other_settings_are_refused(reference):
    from fovea.config import ConfigError
    from fovea.engine.run import _claim
    from fovea.recipe import read_recipe

    def claim(*changes: str) -> None:
        words = [f"run_dir={reference}", *TINY, *changes]
        _claim(reference, read_recipe("quickstart", words))

    claim()
    claim("log_every=5", "workers=1", "keep=3", "evaluate.batch_size=2")
    before = (reference / "config.yaml").read_text()
    with pytest.raises(ConfigError) as refused:
        claim("seed=1", "pretrain.optimizer.clip=1.0", "model.backbone.depth=2")
    keys = {line.split(":")[0] for line in refused.value.lines}
    assert keys == {"seed", "pretrain.optimizer.clip", "model.backbone.depth"}
    assert (reference / "config.yaml").read_text() == before


def test_a_kill_while_the_config_is_written_leaves_a_whole_one(tmp_path, monkeypatch):
    from fovea.engine import run
    from fovea.recipe import read_recipe

    recipe = read_recipe("quickstart", [f"run_dir={tmp_path}", *TINY])
    run._claim(tmp_path, recipe)
    whole = (tmp_path / "config.yaml").read_text()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run._claim(tmp_path, read_recipe("quickstart", [f"run_dir={tmp_path}", *TINY, "keep=5"]))
    assert (tmp_path / "config.yaml").read_text() == whole


@pytest.mark.fault
@pytest.mark.parametrize(
    ("kills", "overrides"), [(20, []), (5, ["workers=2"]), (5, ["precision=bfloat16"])], ids=str
)
def test_sigkill_at_random_moments_changes_no_bit(kills, overrides, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    longer = [*overrides, "pretrain.steps=200", "probe.steps=60", "policy.steps=60"]
    code, printed = Run(whole, *longer).finish()
    assert code == 0, printed
    draws = random.Random(0)
    killed = 0
    for _ in range(kills):
        code, printed = Run(folder, *longer).stop(signal.SIGKILL, draws.randint(0, 18))
        assert code in (0, -signal.SIGKILL), printed
        killed += code != 0
    code, printed = Run(folder, *longer).finish()
    assert code == 0, printed
    assert killed >= kills // 2
    assert_same_run(folder, whole)
