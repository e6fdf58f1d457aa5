"""What a run was made with: code, machine, command, and each of its starts; and what its files are.

Kept in ``environment.json``: the latest start in full, and of each start when it was and by what.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import fovea
from fovea.engine.checkpoint import save_text

FILE = "environment.json"
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "pydantic", "omegaconf", "fvcore")
_ABOUT = """\
What is in this folder
======================
config.yaml                the resolved config; itself a config that can be run
auto.json                  the numbers that auto stood for, and why, if the config has any
environment.json           code, versions, machine and command of the latest start; all starts
pretrain/ probe/ policy/   a folder for each stage:
  metrics.jsonl            one JSON object per logged step, and warnings
  length.json              steps of the stage, images per step
  checkpoint-*.pt          the newest checkpoints; the same command goes on from them
  best.pt                  the checkpoint of the best online kNN accuracy, with 'online'
  trained.pt               what the stage hands on; there when it has finished
  pictures/                what was drawn beside training
  tensorboard/             events, if loggers has tensorboard
  bad_images.jsonl         images that could not be read, with the reason
  nonfinite-step-*.pt      batch and weights of a step with numbers that were not finite
wandb/ trackio/            the run's id there, if loggers has them, and what wandb keeps
random_init/               the run of the untrained network, if evaluate.random_init asks for it
eval/                      what python -m fovea.eval writes: results.json, report.md, pictures

Look at it:  fovea runs FOLDER
Measure it:  python -m fovea.eval FOLDER
Use it:      fovea.load_model("FOLDER")
"""


def record_start(run_dir: Path, device: torch.device, world: int) -> None:
    """Write down this start of a run, and what its files are."""
    file = run_dir / FILE
    environment = describe(device, world)
    start = {key: environment[key] for key in ("started", "command", "host", "code")}
    latest = {**environment, "starts": [*_earlier(file), start]}
    save_text(json.dumps(latest, indent=2) + "\n", file)
    save_text(_ABOUT, run_dir / "README.txt")


def describe(device: torch.device, world: int) -> dict[str, Any]:
    """Say what runs here, and on what, in plain values."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "host": platform.node(),
        "code": {"fovea": fovea.__version__, **_checkout(Path(fovea.__file__).parent)},
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "device": _device_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": world,
    }


def _checkout(folder: Path) -> dict[str, Any]:
    """Name the commit of the code, and whether files differ from it; nothing where it is no clone.

    A clone of something else, in which fovea is merely installed, does not count.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    changed = None if changes is None else bool(changes)
    return {"commit": _git(folder, "rev-parse", "HEAD"), "changed": changed}


def _git(folder: Path, *words: str) -> str | None:
    """Ask git; None where it is not there, or has nothing to say of this folder."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _earlier(file: Path) -> list[Any]:
    """Read the starts so far; a damaged file has none."""
    try:
        starts = json.loads(file.read_text(encoding="utf-8"))["starts"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return starts if isinstance(starts, list) else []


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
