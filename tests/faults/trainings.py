"""Trainings of our command that start at once, to be killed by the dozen.

Importing torch takes seconds. So one process, the ``Nursery``, imports everything, and forks a
fresh one for each training, which runs ``fovea.train.main`` from its first line on.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

STAGES = ("pretrain", "probe", "policy")
TIMED = {"images_per_second", "data_wait"}
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
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
_SERVER = """
import json, os, sys
import fovea.engine.run, fovea.train, timm, torch
import torch.distributed.checkpoint, torch.utils.tensorboard, fvcore.common.param_scheduler
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        pid, status = os.waitpid(order["wait"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if pid else None, flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        printed = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        try:
            code = fovea.train.main(order["words"])
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
"""


class Training:
    """One process that trains.

    Attributes:
        pid: of the process.
        folder: its run_dir.
    """

    def __init__(self, nursery: "Nursery", pid: int, folder: Path, output: Path):
        self.nursery, self.pid, self.folder, self.output = nursery, pid, folder, output
        self.code: int | None = None

    def is_running(self) -> bool:
        """Say whether it has not ended yet."""
        if self.code is None:
            self.code = self.nursery.ask({"wait": self.pid})
        return self.code is None

    def finish(self, seconds: float = 120) -> tuple[int, str]:
        """Wait for the end; return the exit code (negative: the signal) and what was printed."""
        end = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"still running after {seconds} s: {self.printed()}")
            time.sleep(0.005)
        assert self.code is not None
        return self.code, self.printed()

    def printed(self) -> str:
        """Return what was printed so far."""
        return self.output.read_text().replace("\0", "")  # torch ends a message so

    def reach(self, step: int, stage: str = "pretrain", seconds: float = 60) -> bool:
        """Wait until it has logged a step of a stage; say whether it is then still running."""
        end = time.monotonic() + seconds
        while (running := self.is_running()) and last_step(self.folder, stage) < step:
            assert time.monotonic() < end, f"no step {step}: {self.printed()}"
            time.sleep(0.002)
        return running

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.is_running():
            os.kill(self.pid, number)


class Nursery:
    """Forks trainings, as a context manager; those that still run at its end are killed."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, **environment},
        )
        self.started: list[Training] = []

    def train(self, folder: Path, *words: str, config: str = "quickstart") -> Training:
        """Start a training of a tiny model in a run_dir."""
        output = folder.with_name(f"{folder.name}.{len(self.started)}.txt")
        all_words = [config, f"run_dir={folder}", *TINY, *words]
        pid = self.ask({"words": all_words, "output": str(output)})
        assert pid is not None
        self.started.append(Training(self, pid, folder, output))
        return self.started[-1]

    def ask(self, order: dict[str, object]) -> int | None:
        """Give an order, read its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: int | None = json.loads(self.process.stdout.readline().replace("None", "null"))
        return answer

    def __enter__(self) -> "Nursery":
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        for training in self.started:
            training.send(signal.SIGKILL)
        self.process.communicate(timeout=30)


def kill_at_random(
    nursery: Nursery, folder: Path, words: list[str], kills: list[tuple[str, int, int]]
) -> Iterator[tuple[int, str]]:
    """Train through kills (stage, step, signal), each at a random moment after its step.

    Yields:
        Of each process, exit code and what was printed; its run_dir is as the kill has left it.
    """
    draws = random.Random(0)
    for stage, step, number in kills:
        training = nursery.train(folder, *words)
        training.reach(step, stage)
        time.sleep(draws.random() * 0.02)
        training.send(number)
        yield training.finish()
    yield nursery.train(folder, *words).finish()


def last_step(folder: Path, stage: str) -> int:
    """Return the last step that was logged of a stage, or -1."""
    try:
        with (folder / stage / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            whole_lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return -1
    return int(json.loads(whole_lines[-1])["step"]) if whole_lines else -1


def logged(folder: Path, stage: str) -> list[dict[str, float]]:
    """Read what was logged of each step, save the speed; a line half written is left out."""
    file = folder / stage / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    steps = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{key: value for key, value in step.items() if key not in TIMED} for step in steps]


def children(pid: int) -> list[int]:
    """List the processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended
            continue
        if int(parent) == pid:
            found.append(int(status.parent.name))
    return found


def tensors(tree: object, where: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield where, tree
    elif isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from tensors(value, f"{where}.{key}")


def assert_same_weights(folder: Path, reference: Path) -> None:
    """Compare all that the stages handed on, and the last checkpoints: optimiser and prototypes."""
    files = [file.relative_to(reference) for file in reference.glob("*/trained.pt")]
    files += [max(one.glob("checkpoint-*")).relative_to(reference) for one in reference.glob("*/")]
    assert len(files) >= 2
    for file in files:
        one, other = (
            dict(tensors(torch.load(where / file, weights_only=True)))
            for where in (folder, reference)
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), file
