"""Runs of the commands on a device: three stages, a kill, several processes, the tests of a GPU."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.utils._pytree import tree_leaves

import fovea
from fovea.bench.gpu_kernels import apart, within
from fovea.bench.gpu_networks import plan_of
from fovea.bench.limits import NotMeasured, Verdict
from fovea.bench.parts import Finding, Setting
from fovea.bench.tables import Table
from fovea.bench.train_ours import OurTraining, Ready
from fovea.data.loader import Batch
from fovea.engine.distributed import shared_out, whole
from fovea.engine.optim import clip_gradients
from fovea.interfaces import Loss
from fovea.recipe import STAGES
from fovea.trained import FILE

Run: TypeAlias = "subprocess.Popen[str]"

_SHORT = (
    *("pretrain.steps=24", "probe.steps=12", "policy.steps=6", "policy.batch_size=8"),
    *("log_every=1", "checkpoint_every=4"),
)
_TINY = (
    *("threads=1", "data.size=[28,28]", "model.backbone.depth=1", "pretrain.batch_size=8"),
    *("probe.batch_size=8", "policy.traces=2"),
)
_FIRST_STAGE = ("pretrain.steps=6", "probe=null", "policy=null")
_KILLED_AFTER = 6  # steps
_EVALUATE = ("split=val", "enlarge=[1,2]", "enlarge_images=32", "pictures=1", "batch_size=256")
_ROUNDING = 0.02  # relative: what a loss may differ by after some steps on a device of atomics
_RANKS = 1e-3  # relative: sums in another order, over some steps
_PATIENCE = 150.0  # seconds that one command may take
_MARK = "mark.gpu"


def training(setting: Setting) -> Iterator[Finding]:
    """Train all stages, evaluate, and train once more through a kill."""
    runs = {name: setting.folder / name for name in ("first", "second", "killed")}
    started = {name: _start(setting, runs[name]) for name in ("first", "killed")}
    _kill(started["killed"], runs["killed"])
    started["killed"] = _start(setting, runs["killed"])
    started["second"] = _start(setting, runs["second"])
    printed = {name: _finish(process) for name, process in started.items()}
    assert "resumed at step" in printed["killed"], "the killed run began anew"
    tables = (_losses(runs["first"]), _determinism(runs["first"], runs["second"]))
    yield Finding(checks=(_resumed(**runs),), tables=tables)
    _finish(_command(["-m", "fovea.eval", str(runs["first"]), *_EVALUATE]))


def processes(setting: Setting) -> Iterator[Finding]:
    """Train through the device's collectives: one process, and two where there are two GPUs."""
    yield Finding(checks=tuple(_one_process(setting)))
    alone = setting.folder / "alone"
    _finish(_start(setting, alone, *_FIRST_STAGE))
    count = torch.cuda.device_count() if setting.device == "cuda" else 2
    ways = [(1, "ddp"), (2, "ddp"), (2, "fsdp")] if count > 1 else [(1, "ddp")]
    for number, parallel in ways[-1:] if setting.quick else ways:
        folder = setting.folder / f"{parallel}_{number}"
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={number}", "-m"]
        words = [*_FIRST_STAGE, f"parallel={parallel}"]
        _finish(_start(setting, folder, *words, before=torchrun))
        name = f"losses and weights, torchrun, {number} x {parallel}, relative"
        yield Finding(checks=(within(name, _furthest(folder, alone), _RANKS),))


def suite(setting: Setting) -> Iterator[Finding]:
    """Run the tests that need a GPU, those of the checkout."""
    if find_spec("pytest") is None:
        raise NotMeasured("pytest is not installed")
    root = Path(fovea.__file__).parent.parent
    marked = [file for file in sorted(root.glob("tests/**/test_*.py")) if _MARK in file.read_text()]
    if not marked:
        raise NotMeasured("there are no tests beside this installation of fovea")
    words = ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--no-header", "-rs"]
    printed = _finish(_command([*words, *map(str, marked)], folder=root))
    last = printed.strip().splitlines()[-1].strip("= ")
    yield Finding(tables=(Table("Tests that need a GPU", [["files", "pytest"],
        [str(len(marked)), last]], "What pytest said in the end."),))  # fmt: skip


def _one_process(setting: Setting) -> Iterator[Verdict]:
    """Compare the gradients of DDP and of FSDP2, in a group of one process, with plain ones."""
    backend = "cpu:gloo,cuda:nccl" if setting.device == "cuda" else "gloo"
    settings = (f"device={setting.device}", "precision=float32", "model.backbone.drop_path=0")
    plain = OurTraining(plan_of(setting).recipe(settings))
    batch = plain.batch()
    plain.draw_beforehand(batch)
    views = plain.objective.views
    assert isinstance(views, Ready)
    wanted = _gradients(plain, plain.stage, batch)
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        for parallel in ("ddp", "fsdp"):
            other = OurTraining(plan_of(setting).recipe(settings))
            other.draw_beforehand(batch, views)
            wrapped = shared_out(other.stage, parallel, other.device)
            off = apart(_gradients(other, wrapped, batch), wanted)
            name = f"gradients by {parallel} through {backend.rpartition(':')[2]}, relative"
            yield within(name, off, _RANKS)
    finally:
        dist.destroy_process_group()


def _gradients(training: OurTraining, wrapped: nn.Module, batch: Batch) -> Tensor:
    """Make a step up to its gradients, which are clipped, gathered and joined."""
    scene = training.extractor.prepare(batch.images, training.device)
    loss: Loss = wrapped(scene, batch.labels, 0.5, torch.Generator(training.device))
    loss.total.backward()
    clip_gradients(training.stage, 3.0)
    training.stage.update(0.5)
    gradients = [one.grad for one in training.stage.parameters() if one.grad is not None]
    return torch.cat([one.flatten().cpu() for one in whole(gradients)])


def _start(setting: Setting, folder: Path, *changes: str, before: Sequence[str] = ()) -> Run:
    """Start a short training of config ``smoke``."""
    small = _TINY if setting.quick else ()
    words = [f"run_dir={folder}", f"device={setting.device}", *_SHORT, *small, *changes]
    return _command(["-m", *before, "fovea.train", "smoke", *words])


def _command(words: Sequence[str], folder: Path | None = None) -> Run:
    command, pipe = [sys.executable, *words], subprocess.PIPE
    return subprocess.Popen(command, text=True, cwd=folder, stdout=pipe, stderr=subprocess.STDOUT)


def _finish(process: Run) -> str:
    """Wait for a command; return what it printed.

    Raises:
        RuntimeError: it failed, or takes too long.
    """
    try:
        printed, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes then
        printed, _ = process.communicate()
    print(process.args, printed, sep="\n")
    if process.returncode:
        last = (printed.strip().splitlines() or ["nothing was printed"])[-1]
        raise RuntimeError(f"a command ended with exit code {process.returncode}: {last}")
    return printed


def _kill(process: Run, folder: Path) -> None:
    """Kill a training once it has made some steps."""
    end = time.monotonic() + _PATIENCE
    while len(_logged(folder, "pretrain")) < _KILLED_AFTER and process.poll() is None:
        assert time.monotonic() < end, "training did not begin"
        time.sleep(0.002)
    process.kill()
    printed, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"it ended before it was killed: {printed[-300:]}"


def _resumed(first: Path, second: Path, killed: Path) -> Verdict:
    """Expect a resumed run to be as far from an uninterrupted one as another of those is."""
    usual = _furthest(second, first)
    limit = 10 * max(usual, _ROUNDING) if usual else 0.0
    return within("losses and weights of a resumed run, relative", _furthest(killed, first), limit)


def _determinism(first: Path, second: Path) -> Table:
    usual = _furthest(second, first)
    found = f"{usual:.1e} apart" if usual else "equal to the bit"
    note = "Losses and weights of three stages, of one seed on one device."
    return Table("Two runs of the same training", [["", ""], ["the second is", found]], note)


def _furthest(run: Path, other: Path) -> float:
    """Return the largest relative difference of losses and of trained weights."""
    offs = [0.0]
    for stage in STAGES:
        lines = zip(_logged(run, stage), _logged(other, stage), strict=True)
        offs += [abs(one - two) / max(abs(two), 0.1) for one, two in lines]
        if (other / stage / FILE).is_file():
            offs.append(apart(*(_weights(folder / stage / FILE) for folder in (run, other))))
    return max(offs)


def _logged(run: Path, stage: str) -> list[float]:
    """Read the losses of a stage; a line half written is left out."""
    file = run / stage / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    steps = [json.loads(line) for line in lines if line.endswith("\n")]
    return [step["loss"] for step in steps if "loss" in step]  # others are warnings


def _weights(file: Path) -> Tensor:
    tensors = [
        one for one in tree_leaves(torch.load(file, weights_only=True)) if torch.is_tensor(one)
    ]
    return torch.cat([one.flatten().double() for one in tensors])


def _losses(run: Path) -> Table:
    rows = [["stage", "steps", "first loss", "last loss"]]
    for stage in STAGES:
        losses = _logged(run, stage)
        rows.append([stage, str(len(losses)), f"{losses[0]:.3f}", f"{losses[-1]:.3f}"])
    return Table("Three stages of config smoke, shortened", rows, "They show that it runs.")
