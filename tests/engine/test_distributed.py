"""Several processes train as one does: by DDP, by FSDP2, and after a change of their number."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TINY = [
    *("threads=1", "device=cpu", "log_every=1", "checkpoint_every=4", "data.size=[28,28]"),
    *("model.backbone.width=16", "model.backbone.depth=2"),
    *("model.context.zooms=[0,1]", "model.context.grid=2", "model.vit_context.grid=3"),
    *("pretrain.steps=8", "pretrain.batch_size=8", "pretrain.optimizer.layer_decay=0.9"),
    *("pretrain.objective.locals=1", "pretrain.objective.glimpses=2"),
    *("pretrain.objective.global_crop.grid=3", "pretrain.objective.head.hidden=16"),
    *("pretrain.objective.head.prototypes=16", "pretrain.objective.frozen_prototypes=0.25"),
    *("probe.epochs=null", "probe.steps=4", "probe.batch_size=8", "probe.glimpses=2"),
    *("policy.steps=4", "policy.batch_size=4", "policy.glimpses=2", "policy.traces=2"),
    "policy.policy.depth=1",
]
STAGES = ("pretrain", "probe", "policy")


def launch(folder: Path, processes: int, *overrides: str) -> "subprocess.CompletedProcess[str]":
    """Run the command, under torchrun where it takes more than one process."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "fovea.train"]
    return subprocess.run(
        [*command, "quickstart", f"run_dir={folder}", *TINY, *overrides],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        timeout=200,
    )


def train(folder: Path, processes: int, *overrides: str) -> str:
    """Train to the end; return what was printed."""
    done = launch(folder, processes, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def logged(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = (folder / stage / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if "loss" in json.loads(line)]


def weights(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    file = max((folder / stage).glob("checkpoint-*.pt"))
    return dict(torch.load(file, weights_only=True)["stage"])


def assert_alike(folder: Path, other: Path, stages: tuple[str, ...] = STAGES) -> None:
    for stage in stages:
        ours, theirs = logged(folder, stage), logged(other, stage)
        assert [line["step"] for line in ours] == [line["step"] for line in theirs]
        for one, two in zip(ours, theirs, strict=True):
            for name in set(one) - {"images_per_second", "data_wait"}:
                assert one[name] == pytest.approx(two[name], rel=2e-3, abs=2e-5), (stage, name)
        one, two = weights(folder, stage), weights(other, stage)
        assert one.keys() == two.keys()
        apart = sum(float((one[key] - two[key]).double().square().sum()) for key in one)
        size = sum(float(value.double().square().sum()) for value in two.values())
        assert apart < 1e-6 * size, stage  # of some weights the gradient is but rounding


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(folder, 1)
    return folder


@pytest.mark.parametrize(("parallel", "blocks"), [("ddp", "false"), ("fsdp", "1")])
def test_two_processes_train_as_one(parallel, blocks, alone, tmp_path):
    words = f"parallel={parallel}", f"pretrain.checkpoint_blocks={blocks}"
    printed = train(tmp_path / "run", 2, *words)
    assert printed.count(f"processes: 2, {parallel}") == 1
    assert_alike(tmp_path / "run", alone)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(first, then, alone, tmp_path):
    folder = tmp_path / "run"
    only = ["probe=null", "policy=null", "parallel=fsdp"]
    train(folder, first, *only)
    (folder / "pretrain/trained.pt").unlink()
    (folder / "pretrain/checkpoint-00000008.pt").unlink()
    printed = train(folder, then, *only)
    assert printed.count("pretrain: resumed at step 4 of 8") == 1
    assert_alike(folder, alone, ("pretrain",))


def test_in_pieces_a_batch_gives_the_same_update(alone, tmp_path):
    folder = tmp_path / "run"
    only = ["probe=null", "policy=null", "pretrain.objective.accumulate=3"]
    train(folder, 1, *only, "pretrain.checkpoint_blocks=true")
    assert_alike(folder, alone, ("pretrain",))


def test_steps_that_are_not_finite_change_no_weight_that_is_shared_out(tmp_path):
    folder = tmp_path / "run"
    done = launch(folder, 2, "parallel=fsdp", "pretrain.optimizer.lr=1e30")
    assert "3 steps in a row" in done.stdout + done.stderr
    files = sorted((folder / "pretrain").glob("nonfinite-step-*-rank-0.pt"))
    first, *later = [torch.load(file, weights_only=True)["stage"] for file in files]
    assert len(later) == 2
    for state in later:
        assert all(torch.equal(state[name], value) for name, value in first.items())


def test_what_the_first_process_refuses_ends_all_with_its_sentence(alone, tmp_path):
    before = (alone / "config.yaml").read_text()
    done = launch(alone, 2, "seed=9")
    assert done.returncode != 0
    sentences = [line for line in done.stderr.splitlines() if line.startswith("fovea: ")]
    assert sentences == [f"fovea: seed: differs from {alone / 'config.yaml'}; use another run_dir"]
    assert "fovea/train.py" not in done.stderr  # torchrun adds a trace of its own
    assert (alone / "config.yaml").read_text() == before
